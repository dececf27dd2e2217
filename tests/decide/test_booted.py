"""What the config file of a running domain gets: the boot that proved itself, whatever a person started by hand."""

from __future__ import annotations

from dataclasses import replace

from reconciler.decide.changes import Action, Consent
from reconciler.model.domain import Domain, Image, Policy
from reconciler.model.host import Owner
from reconciler.plan.plan import Plan
from reconciler.plan.steps import WriteConfig
from tests.worlds import MIB, change_of, desired, domain, guest, host, plan, stopped, unmanaged

WAITING = Policy(restart="defer")


def written(made: Plan) -> list[WriteConfig]:
    return [step.step for step in made.steps if isinstance(step.step, WriteConfig)]


def test_what_a_person_started_with_does_not_get_into_the_proven_file() -> None:
    web = domain("web", cmdline="ro", policy=WAITING)
    by_hand = replace(web, cmdline="init=/bin/sh")
    made = plan(host(guest(web, running=by_hand)), desired(replace(web, cpu_weight=512)))
    (step,) = written(made)
    assert (step.definition.cmdline, step.definition.cpu_weight) == ("ro", 512)
    assert tuple(map(str, change_of(made, "web").pending)) == ("cmdline needs a restart",)


def test_nor_a_file_that_is_not_staged() -> None:
    web = domain("web", policy=WAITING)
    assert web.kernel is not None
    from_boot = replace(web, kernel=Image(sha256=web.kernel.sha256, path="/boot/vmlinuz"))
    world = host(guest(web, running=from_boot), images={web.kernel.path: web.kernel.sha256})
    made = plan(world, desired(replace(web, cpu_weight=512)))
    (step,) = written(made)
    assert step.definition.kernel is not None
    assert step.definition.kernel.path == web.kernel.path
    assert step.booted == (("/boot/vmlinuz", web.kernel.sha256),), "it is still what runs"


def test_one_that_did_not_run_when_it_was_adopted_has_proven_nothing() -> None:
    consent = Consent(adopt=frozenset({"alpha/web"}))
    for wanted in (domain("web"), domain("web", state="stopped")):
        down = stopped(domain("web"), owner=Owner.UNMANAGED)
        made = plan(host(down), desired(wanted), consent)
        assert change_of(made, "web").action is Action.ADOPT
        assert [step.proven for step in written(made)] == [False]


def kernel_of(definition: Domain) -> Image:
    assert definition.kernel is not None
    return definition.kernel


def test_what_runs_when_it_is_adopted_is_staged_and_recorded() -> None:
    sha256 = kernel_of(domain("web")).sha256
    running = domain("web", kernel=Image(sha256="", path="/boot/vmlinuz"), memory_kib=256 * MIB)
    world = host(unmanaged(running), images={}, unstaged={"/boot/vmlinuz": sha256})
    made = plan(world, desired(domain("web", cmdline="new")), Consent(adopt=frozenset({"alpha/web"})))
    (step,) = written(made)
    assert step.booted == (("/boot/vmlinuz", sha256),)
    assert kernel_of(step.definition).path == f"/var/lib/xen/kernels/web/vmlinuz.{sha256[:12]}"
    assert step.definition.cmdline is None, "that waits for a restart"
