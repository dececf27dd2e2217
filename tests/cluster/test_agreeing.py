"""By which specs all go: on to what follows, never back, and on with what there is where nobody can have newer ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reconciler.cluster.agreeing import Agreeing, Answer, Asked
from reconciler.cluster.keys import Member
from tests.worlds import domain, guest, host

LEASE = 10
A, B, C = ("a" * 40, "b" * 40, "c" * 40)  # each goes on from the one before
OTHER = Member(session="s2", name="two", specs=A)


def newer(older: str, newer: str) -> bool:
    return older <= newer


class One:
    def __init__(self) -> None:
        self.now = 0.0
        self.agreeing = Agreeing(lambda: self.now)

    def ask(self, specs: str, fleet: str, *others: Member, git: bool = True, **more: object) -> Answer:
        asked = Asked(specs=specs, fleet=fleet, others=others, endpoint="http://e:1", lease_seconds=LEASE)
        asked = replace(asked, **more)  # type: ignore[arg-type]
        return asyncio.run(self.agreeing.ask(asked, newer if git else None))


def test_it_moves_on_to_what_follows_and_never_back() -> None:
    one = One()
    assert one.ask(B, A) == Answer(writes=True)
    assert one.agreeing.goes_by == B
    back = one.ask(A, B)
    assert "the others go by bbbbbbbbbbbb, and it has aaaaaaaaaaaa" in (back.why or "")
    assert (back.writes, back.fetches, one.agreeing.lags) == (False, True, True)
    assert not one.ask(A, B).fetches, "it was asked for once"
    assert one.ask(B, B) == Answer()
    assert not one.agreeing.lags


def test_an_empty_etcd_is_told_by_one_that_has_fetched_since_and_looked_at_its_hosts() -> None:
    one = One()
    one.agreeing.fetched(problem=False)
    one.now = 5.0
    assert one.ask(B, "").fetches
    one.agreeing.fetched(problem=True)
    assert "was not fetched since" in (one.ask(B, "").why or "")
    one.agreeing.fetched(problem=False)
    assert "alpha was not looked at yet" in (one.ask(B, "", unseen={"alpha"}).why or "")
    assert one.ask(B, "") == Answer(writes=True)


@pytest.mark.parametrize(("marked", "refused"), [(A, False), (B, False), (C, True), (None, False)])
def test_an_empty_etcd_is_never_told_an_ancestor_of_a_mark_on_a_host(marked: str | None, refused: bool) -> None:
    one = One()
    one.agreeing.fetched(problem=False)
    one.agreeing.marks("alpha", host(replace(guest(domain("web")), commit=marked)))
    answer = one.ask(B, "")
    assert answer.writes != refused
    assert ("reconciler accept bbbbbbbbbbbb" in (answer.why or "")) == refused


def test_where_nobody_can_have_the_commit_of_all_each_goes_on_with_its_own() -> None:
    """For a lease: a peer that can fetch, or has it, is to have the hosts instead."""
    one, silent = One(), OTHER.model_copy(update={"fetches": False, "lags": True})
    assert one.ask(A, C, silent).why, "it could fetch"
    one.agreeing.fetched(problem=True)
    assert "cannot fetch" in (one.ask(A, C, silent).why or "")
    one.now = 9.0
    assert one.ask(A, C, silent).why
    for peer in (OTHER, silent.model_copy(update={"specs": C})):
        assert one.ask(A, C, peer).why
        one.now += 99.0
        assert one.ask(A, C, peer).why
    assert one.ask(A, C, silent).why, "it begins anew"
    one.now += LEASE
    assert one.ask(A, C, silent) == Answer()
    assert (one.agreeing.goes_by, one.agreeing.lags) == (C, True)


def test_trees_without_git_move_on_together() -> None:
    one = One()
    assert one.ask(B, A, OTHER, git=False).why
    assert one.ask(B, A, OTHER.model_copy(update={"specs": B}), git=False) == Answer(writes=True)


def test_a_fleet_of_the_same_name_with_other_hosts_is_named() -> None:
    """Two fleets with one name share all keys, so nothing is begun, and a person is told which hosts there are."""
    one = One()
    why = one.ask(B, A, OTHER, git=False, strangers={"omega", "psi"}).why or ""
    assert "etcd has hosts that these specs have not: omega, psi" in why
    assert "another `fleet`" in why
    assert "omega" in (one.ask(A, B, strangers={"omega"}).why or "")
