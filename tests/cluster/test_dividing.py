"""Which controller should have a host, and who claims it: few moves, and none for one that comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.cluster.dividing import Seen, preference, wishes
from reconciler.cluster.hashing import in_order
from reconciler.cluster.keys import Claim, Member

HOSTS = [f"host{number}" for number in range(200)]
NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=6)


def members(*sessions: str, **changes: object) -> dict[str, Member]:
    return {one: Member(session=one, name=one).model_copy(update=changes) for one in sessions}


@given(NAMES, st.text("xyz", min_size=1, max_size=3))
def test_one_that_comes_takes_its_own_share_and_moves_nothing_between_the_others(names: set[str], new: str) -> None:
    for host in HOSTS[:20]:
        before, after = in_order(host, names)[0], in_order(host, {*names, new})[0]
        assert after in (before, new)


def test_shares_are_about_the_same() -> None:
    shares = [sum(in_order(host, ["one", "two", "three"])[0] == name for host in HOSTS) for name in ("one", "two")]
    assert all(40 <= share <= 95 for share in shares)


def test_a_free_host_is_claimed_by_the_preferred_and_after_a_lease_by_the_next() -> None:
    known = members("a", "b")
    first, second = preference(known, "alpha")
    for session, seconds, claims in ((first, 0, True), (second, 0, False), (second, 9.9, False), (second, 10, True)):
        seen = Seen(session=session, members=known, free_seconds={"alpha": seconds})
        assert bool(wishes(seen, ["alpha"], 10).claims) == claims


def test_a_host_goes_over_once_another_one_has_been_preferred_for_a_lease() -> None:
    known = members("a", "b")
    first, second = preference(known, "alpha")
    claims = {"alpha": Claim(session=second)}
    for stable, gives_up in ((0.0, ()), (9.9, ()), (10.0, ("alpha",))):
        seen = Seen(session=second, members=known, claims=claims, preferred_seconds={"alpha": stable})
        assert wishes(seen, ["alpha"], 10).gives_up == gives_up
    assert (
        wishes(Seen(session=first, members=known, claims=claims, preferred_seconds={"alpha": 99}), ["alpha"], 10).claims
        == ()
    )


def test_one_that_cannot_reach_a_host_or_lags_is_passed_over_unless_all_are_so() -> None:
    known = members("a", "b", "c")
    first, *others = preference(known, "alpha")
    unreached = {**known, **members(first, cannot_reach=frozenset({"alpha"}))}
    assert preference(unreached, "alpha") == others
    assert preference({**known, **members(first, lags=True)}, "alpha") == others
    assert preference(members("a", "b", "c", lags=True), "alpha")[0] == first


def test_a_claim_that_is_not_understood_is_nobodys_to_take() -> None:
    seen = Seen(session="a", members=members("a"), claims={"alpha": None}, free_seconds={"alpha": 99})
    assert wishes(seen, ["alpha"], 10) == wishes(Seen(session="a"), [], 10)
