"""Whose is a domain, what does it run, and from which file: the cases that a host can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from reconciler.model.domain import Domain, Image
from reconciler.model.host import Guest, Owner, Power
from reconciler.texts.config_file import render_file
from reconciler.texts.guests import LiveDomain, assemble_guests, live_domains_of
from reconciler.texts.listing import Row
from tests.strategies import domains
from tests.texts.recorded import UUID, running_json
from tests.texts.test_live import FILE

OTHER = "99999999-1111-2222-3333-444444444444"
OURS = render_file(FILE, "default", "c0ffee")
LIVE = LiveDomain(name="g2", uuid=UUID, power=Power.RUNNING, actual_kib=96 * 1024, config=running_json())
NEW = replace(FILE, kernel=Image(sha256="ef" * 32, path="/boot/guest/vmlinuz.new"), cmdline="console=hvc0")


def assembled(
    *instances: LiveDomain,
    configs: Mapping[str, str] | None = None,
    candidates: Mapping[str, str] | None = None,
    autostart: Mapping[str, int] | None = None,
) -> dict[str, Guest]:
    return assemble_guests(
        fleet="default",
        configs=configs or {},
        candidates=candidates or {},
        instances=instances,
        images={},
        autostart=autostart or {},
    )[0]


def test_a_running_domain_of_ours() -> None:
    assert assembled(LIVE, configs={"g2": OURS}, autostart={"g2": 5}) == {
        "g2": Guest(
            name="g2",
            owner=Owner.OURS,
            config=replace(FILE, autostart=5),
            running=replace(FILE, autostart=5),
            power=Power.RUNNING,
            actual_kib=96 * 1024,
            autostart=5,
            config_exists=True,
            commit="c0ffee",
        )
    }


def test_a_domain_of_ours_that_is_not_there() -> None:
    guest = assembled(configs={"g2": OURS})["g2"]
    assert (guest.owner, guest.power, guest.running, guest.config) == (Owner.OURS, Power.ABSENT, None, FILE)


def test_a_domain_without_a_file_is_unmanaged() -> None:
    guest = assembled(LIVE)["g2"]
    assert (guest.owner, guest.config_exists) == (Owner.UNMANAGED, False)
    assert guest.running is not None
    assert guest.running.memory_kib == 96 * 1024


def test_a_file_without_our_mark_is_unmanaged() -> None:
    guest = assembled(LIVE, configs={"g2": OURS.split("\n", 2)[2]})["g2"]
    assert (guest.owner, guest.config_exists, guest.edited, guest.commit) == (Owner.UNMANAGED, True, False, None)


def test_a_file_of_another_fleet_is_foreign() -> None:
    guest = assembled(LIVE, configs={"g2": render_file(FILE, "other", None)})["g2"]
    assert guest.owner is Owner.FOREIGN


def test_a_copy_of_our_file_under_another_name_is_not_ours() -> None:
    guest = assembled(configs={"g3": OURS})["g3"]
    assert guest.owner is Owner.UNMANAGED
    assert guest.problem == "Its config file is a copy of the one of g2."


def test_a_domain_of_our_name_with_another_uuid_is_never_ours() -> None:
    config = running_json()
    config["c_info"]["uuid"] = OTHER
    guest = assembled(replace(LIVE, uuid=OTHER, config=config), configs={"g2": OURS})["g2"]
    assert guest.owner is Owner.UNMANAGED
    assert guest.problem is not None
    assert OTHER in guest.problem
    assert guest.running is not None
    assert not guest.running.prevent_destroy, "the policies of our file are not those of a stranger"


def test_a_body_edited_by_hand_is_ours_and_drifted() -> None:
    guest = assembled(LIVE, configs={"g2": OURS.replace("memory = 96", "memory = 64")})["g2"]
    assert (guest.owner, guest.edited) == (Owner.OURS, True)
    assert guest.config is not None
    assert guest.config.memory_kib == 64 * 1024


@pytest.mark.parametrize("body", ["", "\n", "\nnonsense\n", "\nname = 'x'\nuuid = 'oops'\n"])
def test_a_body_edited_to_nonsense_does_not_disown_the_domain(body: str) -> None:
    guest = assembled(LIVE, configs={"g2": "\n".join(OURS.split("\n", 2)[:2]) + body})["g2"]
    assert (guest.owner, guest.edited) == (Owner.OURS, True)
    assert (guest.config, guest.running) == (FILE, FILE), "what must outlive the spec holds all the same"
    assert guest.problem


@pytest.mark.parametrize("line", ["pae = 1", "cpus = '3'", "cpu_weight = 5", "vif = [ 'bridge=xenbr0' ]", "# hello"])
def test_an_edit_of_the_file_is_no_difference_of_what_runs(line: str) -> None:
    guest = assembled(LIVE, configs={"g2": f"{OURS}{line}\n"})["g2"]
    assert (guest.owner, guest.edited, guest.running) == (Owner.OURS, True, FILE)


def test_an_edited_uuid_does_not_disown_the_domain() -> None:
    guest = assembled(LIVE, configs={"g2": OURS.replace(f'uuid = "{UUID}"', f'uuid = "{OTHER}"')})["g2"]
    assert (guest.owner, guest.edited) == (Owner.OURS, True)
    assert guest.running is not None
    assert guest.running.uuid == UUID
    assert guest.running.prevent_destroy


def started(domain: Domain) -> dict[str, Any]:
    assert domain.kernel is not None
    return running_json(kernel=domain.kernel.path, cmdline=domain.cmdline)


@pytest.mark.parametrize(("runs", "unproven"), [(FILE, False), (NEW, True)])
def test_which_file_it_was_started_from(runs: Domain, unproven: bool) -> None:
    candidates = {"g2": render_file(NEW, "default", None)}
    for live in (replace(LIVE, config=started(runs)), replace(LIVE, config=None, definition=runs)):
        guest = assembled(live, configs={"g2": OURS}, candidates=candidates)["g2"]
        assert (guest.config, guest.candidate) == (FILE, NEW)
        assert (guest.running, guest.unproven) == (runs, unproven)


@pytest.mark.parametrize("proven", [True, False])
def test_a_domain_that_runs_from_a_config_which_never_got_ready_is_unproven(proven: bool) -> None:
    guest = assembled(LIVE, configs={"g2": render_file(FILE, "default", None, proven=proven)})["g2"]
    assert (guest.config, guest.config_proven, guest.unproven) == (FILE, proven, not proven)


def test_live_changes_are_no_evidence_for_a_candidate() -> None:
    bigger = replace(FILE, memory_kib=128 * 1024, vcpus=2)
    live = replace(LIVE, config=running_json(target_memkb=128 * 1024, avail_vcpus=[0, 1]))
    guest = assembled(live, configs={"g2": OURS}, candidates={"g2": render_file(bigger, "default", None)})["g2"]
    assert not guest.unproven


def test_a_first_boot_runs_from_the_candidate() -> None:
    guest = assembled(LIVE, candidates={"g2": OURS})["g2"]
    assert (guest.owner, guest.unproven, guest.config_exists) == (Owner.OURS, True, False)
    assert guest.running == FILE


@pytest.mark.parametrize("text", ["", render_file(FILE, "other", None), render_file(FILE, "default", None)])
def test_a_candidate_that_cannot_be_ours_is_no_guest(text: str) -> None:
    assert assembled(candidates={"g3": text}) == {}


def test_a_row_that_the_long_list_left_out_is_still_there() -> None:
    guest = assembled(replace(LIVE, config=None), configs={"g2": OURS})["g2"]
    assert (guest.owner, guest.power, guest.running) == (Owner.OURS, Power.RUNNING, None)
    assert guest.problem == "`xl list -l` does not tell what it runs with."


def test_a_live_definition_that_cannot_be_read_is_a_problem() -> None:
    guest = assembled(replace(LIVE, config={"b_info": {}, "disks": [{"vdev": "floppy"}]}), configs={"g2": OURS})["g2"]
    assert guest.running is None
    assert guest.problem is not None
    assert "floppy" in guest.problem


def test_policies_of_a_simulated_domain_are_those_of_its_file_now() -> None:
    before = replace(FILE, prevent_destroy=False, depends_on=(), disks=(replace(FILE.disks[0], on_delete="keep"),))
    guest = assembled(replace(LIVE, config=None, definition=before), configs={"g2": OURS})["g2"]
    assert guest.running == FILE


def test_what_is_left_beside_another_row_counts_with_its_memory() -> None:
    left = replace(LIVE, name=None, power=Power.DYING, actual_kib=2048, config=None)
    stranger = replace(LIVE, uuid=OTHER, power=Power.DYING, actual_kib=1024, config=None)
    guests, remains_kib = assemble_guests(
        fleet="default", configs={"g2": OURS}, candidates={}, instances=[left, stranger, LIVE], images={}, autostart={}
    )
    assert remains_kib == 3072
    assert list(guests) == ["g2"]
    assert (guests["g2"].owner, guests["g2"].power, guests["g2"].listed_as) == (Owner.OURS, Power.RUNNING, None)


@pytest.mark.parametrize("power", [Power.DYING, Power.RUNNING, Power.PAUSED])
@pytest.mark.parametrize("name", [None, "renamed", "two words"])
@pytest.mark.parametrize("written", ["configs", "candidates"])
def test_a_row_with_our_uuid_is_that_domain_whatever_its_name_is(name: str | None, power: Power, written: str) -> None:
    lost = replace(LIVE, name=name, power=power, config=None, domid=7)
    files = {"g2": OURS}
    guests = assembled(lost, configs=files) if written == "configs" else assembled(lost, candidates=files)
    assert list(guests) == ["g2"]
    guest = guests["g2"]
    assert (guest.owner, guest.power, guest.domid) == (Owner.OURS, power, 7)
    assert guest.listed_as == (name or "(null)")


def test_a_stranger_with_the_name_of_a_domain_that_lives_under_another_name_is_no_domain_of_ours() -> None:
    guests = assembled(replace(LIVE, name="renamed"), replace(LIVE, uuid=OTHER, config=None), configs={"g2": OURS})
    assert (guests["g2"].owner, guests["g2"].listed_as) == (Owner.OURS, "renamed")
    (stranger,) = (guest for guest in guests.values() if guest.name != "g2")
    assert (stranger.owner, stranger.power, stranger.listed_as) == (Owner.UNMANAGED, Power.RUNNING, "g2")


@pytest.mark.parametrize("name", ["copy", None, "two words"])
@pytest.mark.parametrize("power", [Power.RUNNING, Power.PAUSED])
def test_of_two_that_run_with_one_uuid_each_is_a_domain(name: str | None, power: Power) -> None:
    """As where a config file was copied, and only its name changed."""
    copy = replace(LIVE, name=name, domid=9, power=power)
    guests = assembled(LIVE, copy, configs={"g2": OURS})
    assert (guests["g2"].owner, guests["g2"].domid, guests["g2"].listed_as) == (Owner.OURS, LIVE.domid, None)
    other = guests[name or f"(null) {UUID}"]
    assert (other.owner, other.power, other.uuid) == (Owner.UNMANAGED, power, UUID)
    assert len(assembled(LIVE, copy, replace(copy, domid=10), configs={"g2": OURS})) == 3


def test_a_row_without_a_name_that_is_nobodys_is_a_guest_all_the_same() -> None:
    (guest,) = assembled(replace(LIVE, name=None, uuid=OTHER, config=None)).values()
    assert (guest.owner, guest.power, guest.listed_as) == (Owner.UNMANAGED, Power.RUNNING, "(null)")
    assert guest.name == f"(null) {OTHER}"


@pytest.mark.parametrize("suffix", ["--incoming", "--migratedaway"])
@pytest.mark.parametrize("power", [Power.PAUSED, Power.SUSPENDED, Power.RUNNING])
def test_a_migration_by_hand_is_a_state_of_the_domain(suffix: str, power: Power) -> None:
    row = Row(name=f"g2{suffix}", domid=9, memory_kib=98304, vcpus=1, power=power, uuid=UUID, has_run=False)
    (moving,) = live_domains_of([row], {})
    beside = replace(LIVE, power=Power.RUNNING)
    for rows in ((moving,), (moving, beside), (beside, moving)):
        guests = assembled(*rows, configs={"g2": OURS})
        assert list(guests) == ["g2"]
        assert (guests["g2"].power, guests["g2"].listed_as) == (Power.MIGRATING, f"g2{suffix}")


def test_a_domain_that_is_being_made_is_told_from_a_paused_one() -> None:
    row = Row(name="g2", domid=4, memory_kib=98304, vcpus=1, power=Power.PAUSED, uuid=UUID, has_run=False)
    assert live_domains_of([row], {})[0].power is Power.UNFINISHED
    assert live_domains_of([row], {4: running_json()})[0].power is Power.PAUSED
    assert live_domains_of([replace(row, has_run=True)], {})[0].power is Power.PAUSED


def test_an_image_that_waits_is_a_state_of_a_domain_that_is_not_there() -> None:
    def guest(*instances: LiveDomain) -> Guest:
        found, _ = assemble_guests(
            fleet="default",
            configs={"g2": OURS},
            candidates={},
            instances=instances,
            images={},
            autostart={},
            saved={"g2": "/var/lib/xen/save/g2", "other": "/var/lib/xen/save/other"},
        )
        assert list(found) == ["g2", "other"]
        return found["g2"]

    assert (guest().power, guest().saved_image, guest().exists) == (Power.SAVED, "/var/lib/xen/save/g2", False)
    assert (guest(LIVE).power, guest(LIVE).saved_image) == (Power.RUNNING, None)


def test_an_image_of_a_domain_that_nothing_else_tells_of_is_a_domain_all_the_same() -> None:
    saved = {"g2": "/var/lib/xen/save/g2"}
    guests, _ = assemble_guests(
        fleet="default", configs={}, candidates={}, instances=[], images={}, autostart={}, saved=saved
    )
    assert (guests["g2"].owner, guests["g2"].power, guests["g2"].exists) == (Owner.UNMANAGED, Power.SAVED, False)


def test_a_name_of_digits_is_a_problem() -> None:
    assert assembled(replace(LIVE, name="12"))["12"].problem == "Its name is a number, which xl takes for a domid."


def test_rows_and_long_entries_belong_together_by_domid_and_uuid() -> None:
    row = Row(name="g2", domid=4, memory_kib=98304, vcpus=1, power=Power.RUNNING, uuid=UUID)
    dom0 = replace(row, name="Domain-0", domid=0)
    long = {0: {}, 4: running_json()}
    assert live_domains_of([dom0, row], long) == (replace(LIVE, domid=4),)
    assert live_domains_of([replace(row, uuid=OTHER)], long)[0].config is None, "the domid was given to another"
    assert live_domains_of([replace(row, domid=5)], long)[0].config is None
    assert live_domains_of([replace(row, uuid="")], long)[0].uuid == UUID, "a plain xl list has no UUIDs"


@given(domains(name="web"))
def test_a_written_domain_is_ours_and_as_defined(domain: Domain) -> None:
    live = LiveDomain(
        name="web", uuid=domain.uuid, power=Power.RUNNING, actual_kib=domain.memory_kib, definition=domain
    )
    guest = assembled(live, configs={"web": render_file(domain, "default", None)})["web"]
    assert (guest.owner, guest.config, guest.running) == (Owner.OURS, domain, domain)
    assert guest.problem is None


def test_a_file_of_another_name_tells_what_a_domain_without_its_own_was_started_with() -> None:
    instance = LiveDomain(name="g2", uuid=UUID, power=Power.RUNNING, actual_kib=98304, config=running_json())
    text = f'name = "g2"\nuuid = "{UUID}"\nkernel = "/boot/guest/vmlinuz"\n# why\nlocaltime = 0\ncpus = "0-1"\n'

    def running(**configs: str) -> Guest:
        guests, _ = assemble_guests(
            fleet="default", configs=configs, candidates={}, instances=[instance], images={}, autostart={}
        )
        return guests["g2"]

    told = running(other=text)
    assert told.running is not None
    assert (told.running.xl, told.running.cpus) == ((("localtime", 0),), "0-1")
    assert told.comments["localtime"] == ["# why"]
    for configs in ({"other": text, "more": text}, {"other": text, "g2": 'name = "g2"\nkernel = "/k"\nmemory = 9\n'}):
        nobody_knows = running(**configs)
        assert nobody_knows.running is not None
        assert nobody_knows.running.cpus is None
