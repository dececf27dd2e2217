"""What is refused over the whole plan: too many to destroy or restart, memory that does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.decide.changes import Action, Change, Consent
from reconciler.model.diagnostics import Diagnostic, Kind
from reconciler.model.fleet import Brake, Desired
from reconciler.plan.chains import Chain, Link
from reconciler.plan.order import Room
from reconciler.plan.refusals import Used, brake, misfits
from reconciler.plan.steps import SetMemory
from tests.worlds import MIB, desired, domain, guest, host, unmanaged

HOSTS = {"alpha": host(*(guest(domain(f"d{number}")) for number in range(10)), unmanaged(domain("theirs")))}


def changes(action: Action, *addresses: str) -> list[Change]:
    split = [address.split("/") for address in addresses]
    return [Change(host=name, domain=one, action=action, reason="") for name, one in split]


class TestBrake:
    def held(self, action: Action, count: int, limit: Brake, consent: Consent | None = None) -> bool:
        wanted: Desired = desired(brake=limit)
        acting = changes(action, *(f"alpha/d{number}" for number in range(count)))
        problems, refused, _ = brake(acting, wanted, HOSTS, consent or Consent())
        assert bool(problems) == bool(refused)
        assert set(refused) in ({change.address for change in acting}, set())
        return bool(problems)

    @pytest.mark.parametrize(
        ("limit", "allowed"), [(0, 0), (0.0, 0), (0.05, 1), (2, 2), (0.2, 2), (0.25, 2), (1.0, 10)]
    )
    def test_a_count_is_as_it_is_and_a_share_is_of_our_domains(self, limit: float, allowed: int) -> None:
        assert not self.held(Action.DESTROY, allowed, Brake(max_destroy=limit))
        assert self.held(Action.DESTROY, allowed + 1, Brake(max_destroy=limit))

    def test_restarts_are_counted_only_where_a_limit_is_set(self) -> None:
        assert not self.held(Action.RESTART, 10, Brake(max_destroy=0))
        assert self.held(Action.RESTART, 4, Brake(max_restart=3))
        assert not self.held(Action.RESTART, 3, Brake(max_restart=3))

    def test_what_a_person_allows_counts_if_it_is_more(self) -> None:
        assert not self.held(Action.DESTROY, 5, Brake(max_destroy=1), Consent(allow_destroy=5))
        assert self.held(Action.DESTROY, 5, Brake(max_destroy=1), Consent(allow_destroy=4))
        assert not self.held(Action.DESTROY, 2, Brake(max_destroy=2), Consent(allow_destroy=0))
        assert self.held(Action.DESTROY, 5, Brake(max_destroy=1), Consent(allow_restart=5))

    def test_what_the_same_specs_used_before_counts_each_domain_once(self) -> None:
        wanted = desired(brake=Brake(max_destroy=3))
        used = Used().and_of(changes(Action.DESTROY, "alpha/gone", "alpha/d0"))

        def told(*addresses: str) -> list[str]:
            problems, _, _ = brake(changes(Action.DESTROY, *addresses), wanted, HOSTS, Consent(), used)
            return [problem.detail for problem in problems]

        assert told("alpha/d0", "alpha/d1") == []
        assert told("alpha/d1", "alpha/d2") == [
            "This run would destroy 2 of 11 domains, after 2 for the same specs, and [brake] allows 3: "
            "alpha/d1, alpha/d2"
        ]
        again, refused, _ = brake(changes(Action.DESTROY, "alpha/d0"), wanted, HOSTS, Consent(), used)
        assert (again, refused) == ([], {})

    def test_a_share_is_of_what_there_was_before_the_first_of_them_went(self) -> None:
        used = Used().and_of(changes(Action.DESTROY, *(f"alpha/gone{number}" for number in range(10))))
        acting = changes(Action.DESTROY, *(f"alpha/d{number}" for number in range(10)))
        assert brake(acting, desired(brake=Brake(max_destroy=1.0)), HOSTS, Consent(), used)[0] == []
        assert brake(acting, desired(brake=Brake(max_destroy=0.99)), HOSTS, Consent(), used)[0]

    def test_where_nobody_knows_what_was_used_nothing_more_is_allowed(self) -> None:
        lost = Diagnostic(kind=Kind.REFUSED, summary="lost")
        acting = [*changes(Action.DESTROY, "alpha/d0"), *changes(Action.RESTART, "beta/x")]
        problems, refused, _ = brake(acting, desired(), HOSTS, Consent(), Used(unknown=lost))
        assert (problems, set(refused)) == ([lost], {"alpha/d0"})

    def test_hosts_that_have_no_part_in_it_go_on(self) -> None:
        mixed = [*changes(Action.DESTROY, "alpha/a", "alpha/b"), *changes(Action.UPDATE, "alpha/c", "beta/d")]
        (problem,), refused, _ = brake(mixed, desired(brake=Brake(max_destroy=1)), HOSTS, Consent())
        assert set(refused) == {"alpha/a", "alpha/b", "alpha/c"}
        assert (problem.kind, problem.hint) == (
            Kind.REFUSED,
            "if that is meant: reconciler apply --allow-destroy 2",
        )
        assert "would destroy 2 of 10 domains and [brake] allows 1: alpha/a, alpha/b" in problem.detail


class TestMemory:
    def refused(self, free_mib: int, **moved_mib: int) -> tuple[str, set[str]]:
        """What is said, and who is refused, when these domains take so much more (or less) of a host."""
        chains = [chain(name, mib) for name, mib in moved_mib.items()]
        problems, found = misfits(chains, {"alpha": Room(free_kib=free_mib * MIB, max_unavailable=1)})
        return (problems[0].detail if problems else ""), set(found)

    def test_what_fits_at_the_end_is_let_go_on(self) -> None:
        assert self.refused(100, a=100) == ("", set())
        assert self.refused(0, a=100, b=-100) == ("", set())

    def test_a_host_that_is_too_full_already_refuses_nobody_who_takes_nothing(self) -> None:
        assert self.refused(-50, a=-10, b=0) == ("", set())

    def test_the_smallest_set_that_does_not_fit_is_named_in_numbers(self) -> None:
        said, who = self.refused(99, small=10, large=100, shrinks=-5)
        assert who == {"alpha/small", "alpha/large", "alpha/shrinks"}
        assert said.startswith("These do not fit together: alpha/large 100 MiB more, alpha/small 10 MiB more. ")
        assert "Room for growth is 104 MiB, 6 MiB too little" in said

    def test_one_that_does_not_fit_by_itself_is_told_alone(self) -> None:
        problems, _ = misfits([chain("large", 100)], {"alpha": Room(free_kib=60 * MIB, max_unavailable=1)})
        assert problems[0].detail.startswith("This does not fit: alpha/large 100 MiB more. Room for growth is 60 MiB, ")
        assert problems[0].hint == "lower memory in its spec, or stop or move a domain"

    def test_other_hosts_go_on(self) -> None:
        there = chain("b", 100)
        elsewhere = replace(there, change=replace(there.change, host="beta"))
        rooms = {name: Room(free_kib=free * MIB, max_unavailable=1) for name, free in (("alpha", 0), ("beta", 100))}
        _, refused = misfits([chain("a", 1), elsewhere], rooms)
        assert set(refused) == {"alpha/a"}


def chain(name: str, mib: int) -> Chain:
    """A chain of one step that moves so much memory."""
    step = SetMemory(domain=name, uuid="", before_kib=0, memory_kib=0)
    change = Change(host="alpha", domain=name, action=Action.UPDATE, reason="")
    return Chain(change=change, links=(Link(step=step, delta_kib=mib * MIB),))
