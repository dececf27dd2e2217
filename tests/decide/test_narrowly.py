"""What is held, blocked or written narrowly: the nearest case beside it goes on."""

from __future__ import annotations

from dataclasses import replace

from reconciler.decide.changes import Action
from reconciler.decide.ownership import as_adopted
from reconciler.decide.states import found_twice
from reconciler.model.domain import Image
from reconciler.model.fleet import HostSettings
from tests.worlds import NEW, OLD, change_of, desired, domain, guest, host, kinds, plan, stopped, vif


def test_another_order_of_starts_alone_writes_no_config_file() -> None:
    made = plan(host(guest(domain("web"))), desired(domain("web", autostart=5)))
    assert kinds(made, "web") == ["set_autostart"]


def test_a_config_file_that_a_rename_left_is_no_second_domain_and_one_that_runs_is() -> None:
    runs, left = guest(domain("web", uuid="same")), stopped(domain("old", uuid="same"))
    assert found_twice({"alpha": host(runs, left)}) == {}
    both = host(runs, guest(domain("old", uuid="same")))
    assert found_twice({"alpha": both}) == {"alpha/web": "alpha/old", "alpha/old": "alpha/web"}


def test_a_file_that_holds_other_bytes_by_now_is_not_taken_for_what_was_booted() -> None:
    settings = HostSettings(name="alpha", toolstack="simulated")
    booted = domain("web", kernel=Image(sha256=OLD, path="/boot/vmlinuz", source="/boot/vmlinuz"))
    same, other = (as_adopted(host(unstaged={"/boot/vmlinuz": now}), settings, booted).kernel for now in (OLD, NEW))
    assert same is not None
    assert same.path.startswith(settings.kernel_dir)
    assert other is not None
    assert other.path == "/boot/vmlinuz", "nobody has its bytes any more"


def test_an_unnamed_interface_beside_a_named_one_may_get_another_bridge() -> None:
    named, unnamed = vif("00:16:3e:00:00:01"), vif("00:16:3e:00:00:02", 1, named=False)
    world = host(guest(domain("web", vifs=(named, unnamed))), bridges=frozenset({"xenbr0", "xenbr1"}))
    made = plan(world, desired(domain("web", vifs=(named, replace(unnamed, bridge="xenbr1")))))
    assert change_of(made, "web").action is not Action.BLOCKED
