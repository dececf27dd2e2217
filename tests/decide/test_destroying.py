"""What goes with a domain that no spec names any more, and what may not go."""

from __future__ import annotations

from reconciler.decide.changes import Action
from tests.worlds import (
    change_of,
    desired,
    disk,
    domain,
    guest,
    host,
    kinds,
    plan,
)


def test_destroying_keeps_disks_unless_asked_and_removes_the_mark_last() -> None:
    disks = (disk("/srv/keep"), disk("/srv/drop", 51728, on_delete="delete"))
    made = plan(host(guest(domain("web", disks=disks, autostart=5))), desired(domain("other")))
    assert kinds(made, "web") == [
        "shutdown",
        "set_autostart",
        "sweep_images",
        "delete_disk",
        "remove_config",
    ]
    assert not any(getattr(step.step, "disk", disks[1]).target == "/srv/keep" for step in made.steps)


def test_a_disk_that_another_domain_names_is_not_deleted() -> None:
    shared = disk("/srv/shared", on_delete="delete")
    made = plan(host(guest(domain("web", disks=(shared,)))), desired(domain("heir", disks=(shared,))))
    assert "delete_disk" not in kinds(made, "web")
    assert 'renamed_from = "web"' in (change_of(made, "heir").hint or "")
    heir_start = next(step for step in made.steps if step.address == "alpha/heir" and step.step.kind == "start")
    web_down = next(step for step in made.steps if step.address == "alpha/web" and step.step.kind == "shutdown")
    assert web_down.id in heir_start.needs


def test_prevent_destroy_outlives_the_spec_file() -> None:
    made = plan(host(guest(domain("web", prevent_destroy=True))), desired(domain("other")))
    change = change_of(made, "web")
    assert change.action is Action.BLOCKED
    assert "prevent_destroy = false" in (change.hint or "")


def test_an_empty_tree_destroys_nothing() -> None:
    made = plan(host(guest(domain("web"))), desired())
    assert change_of(made, "web").action is Action.BLOCKED
