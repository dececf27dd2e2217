"""Config files with our mark: what is written is read back, and what is not ours is not taken for ours."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.domain import Disk, Domain, Image, Vif, fingerprint
from reconciler.texts.cfg_grammar import parse_cfg, read_plain
from reconciler.texts.config_file import read_file, render_body, render_file
from reconciler.texts.mark import MARK_PREFIX
from tests.strategies import domains

KERNEL = Image(sha256="3f2a" * 16, path="/var/lib/xen/kernels/web/vmlinuz.3f2a3f2a3f2a")
WEB = Domain(
    name="web",
    uuid="5c5c6ea2-95de-5d2c-a1b5-bd5a5ad7c0a1",
    kernel=KERNEL,
    cmdline='root=/dev/xvda init="/bin/sh"',
    memory_kib=1024 * 1024,
    maxmem_kib=2048 * 1024,
    vcpus=2,
    maxvcpus=4,
    disks=(Disk(vdev="xvda", devid=51712, kind="lv", target="/dev/vg0/web", on_delete="delete"),),
    vifs=(Vif(devid=0, mac="00:16:3e:01:02:03", bridge="xenbr0"),),
    xl=(("serial", "pty"), ("vnc", 1)),
    prevent_destroy=True,
    depends_on=("db",),
)


def test_a_body_is_a_plain_xl_cfg() -> None:
    assert render_body(WEB) == (
        'name = "web"\n'
        'uuid = "5c5c6ea2-95de-5d2c-a1b5-bd5a5ad7c0a1"\n'
        'type = "pv"\n'
        'kernel = "/var/lib/xen/kernels/web/vmlinuz.3f2a3f2a3f2a"\n'
        'cmdline = "root=/dev/xvda init=\\"/bin/sh\\""\n'
        "memory = 1024\n"
        "maxmem = 2048\n"
        "vcpus = 2\n"
        "maxvcpus = 4\n"
        "disk = [\n"
        '    "format=raw,vdev=xvda,access=rw,target=/dev/vg0/web",\n'
        "]\n"
        "vif = [\n"
        '    "mac=00:16:3e:01:02:03,devid=0,bridge=xenbr0",\n'
        "]\n"
        'on_poweroff = "destroy"\n'
        'on_reboot = "restart"\n'
        'on_crash = "destroy"\n'
        'on_watchdog = "destroy"\n'
        'serial = "pty"\n'
        "vnc = 1\n"
    )


def test_a_file_is_two_comment_lines_and_the_body() -> None:
    human, mark, body = render_file(WEB, "default", "c0ffee").split("\n", 2)
    assert human.startswith("# Managed by reconciler")
    assert body == render_body(WEB)
    said = json.loads(mark.removeprefix(MARK_PREFIX))
    assert said["fleet"] == "default"
    assert said["commit"] == "c0ffee"
    assert said["spec"] == fingerprint(WEB)
    assert said["kernel"] == KERNEL.sha256


@given(domains())
def test_what_is_written_is_read_back(domain: Domain) -> None:
    file = read_file(render_file(domain, "default", None), {})
    assert file.problem is None
    assert file.intact
    assert file.ignored == file.unsaid == ()
    assert file.domain == domain
    assert [image.path for image in file.domain.images] == [image.path for image in domain.images]


@given(domains(), st.none() | st.text("0123456789abcdef", min_size=40, max_size=40))
def test_the_commit_is_no_part_of_the_definition(domain: Domain, commit: str | None) -> None:
    written = render_file(domain, "default", commit)
    assert read_file(written, {}).domain == domain
    assert written.split("\n", 2)[2] == render_file(domain, "default", None).split("\n", 2)[2]


def test_an_edited_body_is_noticed_and_read_as_it_is_now() -> None:
    edited = render_file(WEB, "default", None).replace("\nmemory = 1024", "\nmemory = 512")
    file = read_file(edited, {KERNEL.path: "beef" * 16})
    assert not file.intact
    assert file.mark is not None
    assert file.domain is not None
    assert file.domain.memory_kib == 512 * 1024
    assert file.domain.prevent_destroy, "what outlives the spec holds in an edited file, too"
    assert file.domain.kernel == Image(sha256="beef" * 16), "the mark no longer speaks for the kernel"
    assert file.domain.disks[0].on_delete == "keep", "an edited file gives no right to delete"
    assert file.original == WEB


@pytest.mark.parametrize("key", ["kernel", "ramdisk"])
@pytest.mark.parametrize("head", ["", "edited"])
def test_a_file_that_was_read_before_is_read_with_the_digests_of_now(key: str, head: str) -> None:
    image = Image(sha256="3f2a" * 16, path=f"/boot/{key}.3f2a3f2a3f2a")
    domain = replace(WEB, kernel=image) if key == "kernel" else replace(WEB, ramdisk=image)
    text = render_body(domain)
    if head:
        text = render_file(domain, "default", None).replace("\nmemory = 1024", "\nmemory = 512")
    for sha256 in ("beef" * 16, "3f2a" * 16, ""):
        file = read_file(text, {image.path: sha256} if sha256 else {})
        assert file.domain is not None
        assert getattr(file.domain, key) == Image(sha256=sha256, path=image.path)


def test_a_file_that_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = render_file(replace(WEB, name="unchanged"), "default", None)
    first = read_file(text, {KERNEL.path: KERNEL.sha256})
    monkeypatch.setattr("reconciler.texts.config_file.read_values", None)
    assert read_file(text, {KERNEL.path: KERNEL.sha256, "/boot/another": "beef" * 16}) == first


def test_a_text_in_the_mark_that_is_not_the_one_it_was_made_for_is_not_believed() -> None:
    edited = render_file(WEB, "default", None).replace("memory = 1024", "memory = 512")
    assert read_file(edited, {}).original is None


def test_a_comment_added_above_the_mark_is_no_edit() -> None:
    assert read_file("# please mind the gap\n" + render_file(WEB, "default", None), {}).intact


def test_a_mark_that_is_not_at_the_head_is_none() -> None:
    human, mark, body = render_file(WEB, "default", None).split("\n", 2)
    assert read_file(f"{human}\n{body}{mark}\n", {}).mark is None


@pytest.mark.parametrize(
    "change",
    [
        {"fleet": 5}, {"text": 1}, {"state": "maybe"}, {"prevent_destroy": "yes"}, {"shutdown_timeout_seconds": "soon"},
        {"uuid": None}, {"depends_on": "db"}, {"on_delete": [[51712, "burn"]]}, {"on_delete": [51712]}, {"kinds": {}},
        {"commit": 1}, {"shutdown_timeout_seconds": float("inf")}, {"depends_on": [["db"]]},
    ],
)  # fmt: skip
def test_a_mark_with_wrong_values_is_none(change: dict[str, Any]) -> None:
    human, mark, body = render_file(WEB, "default", None).split("\n", 2)
    said = {**json.loads(mark.removeprefix(MARK_PREFIX)), **change}
    file = read_file(f"{human}\n{MARK_PREFIX}{json.dumps(said)}\n{body}", {})
    assert file.mark is None
    assert file.domain is not None


@pytest.mark.parametrize("mark", ["", "{", "[]", "{}", "null", "[" * 50_000, '{"fleet":' * 900, "x" * 300_000])
def test_a_broken_mark_is_none(mark: str) -> None:
    assert read_file(f"{MARK_PREFIX}{mark}\n{render_body(WEB)}", {}).mark is None


def test_a_mark_of_a_later_version_may_say_more() -> None:
    text = render_file(WEB, "default", None).replace('{"body"', '{"a_later_key":1,"body"')
    assert read_file(text, {}).domain == WEB


@given(st.text() | st.text(st.sampled_from("nameuid =+[]'\"\\,;#\n1")), st.booleans())
def test_any_text_is_read_without_a_traceback(text: str, marked: bool) -> None:
    head = MARK_PREFIX if marked else ""
    file = read_file(head + text, {})
    assert (file.domain is None) == (file.problem is not None)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (replace(WEB, memory_kib=1000), "whole number of MiB"),
        (replace(WEB, cmdline="a\nb"), "cannot carry"),
        (replace(WEB, kernel=Image(sha256="", source="/boot/vmlinuz")), "not staged"),
        (replace(WEB, cmdline="a" * 200_000), "longer than"),
        (replace(WEB, xl=(("memory", 5),)), "key of the spec itself"),
        (replace(WEB, xl=(("Bad key", 5),)), "none that xl can read"),
        (replace(WEB, xl=(("rtc_timeoffset", -3600),)), 'write it as a string, "-3600"'),
        (replace(WEB, vifs=(Vif(devid=0, mac="00:16:3e:01:02:03", bridge="a,b"),)), "another key"),
    ],
)
def test_what_xl_cfg_cannot_say_is_refused(domain: Domain, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_file(domain, "default", None)


def test_a_file_of_the_netbsd_howto() -> None:
    file = read_file(
        'kernel = "/netbsd-XEN3PAE_DOMU-i386-foo.gz"\n'
        "memory = 1024\n"
        'name = "foo"\n'
        "vif = [ 'mac=aa:00:00:d1:00:09,bridge=bridge0' ]\n"
        "disk = [ 'file:/u0/xen/foo-wd0,0x0,w',\n"
        "         'file:/u0/xen/foo-wd1,0x1,w' ]\n"
        'root = "xbd0"\n',
        {},
    )
    assert file.domain == Domain(
        name="foo",
        uuid="",
        kernel=Image(sha256=""),
        cmdline="root=xbd0",
        memory_kib=1024 * 1024,
        maxmem_kib=1024 * 1024,
        disks=(
            Disk(vdev="0x0", devid=0, kind="file", target="/u0/xen/foo-wd0"),
            Disk(vdev="0x1", devid=1, kind="file", target="/u0/xen/foo-wd1"),
        ),
        vifs=(Vif(devid=0, mac="aa:00:00:d1:00:09", bridge="bridge0"),),
    )
    assert file.domain.kernel is not None
    assert file.domain.kernel.path == "/netbsd-XEN3PAE_DOMU-i386-foo.gz"
    assert file.mark is None


def test_a_vif_without_settings_is_one_vif() -> None:
    file = read_file("name = 'nat'\nmemory = '64'\nvif = [ '' ]\n", {})
    assert file.domain is not None
    assert file.domain.vifs == (Vif(devid=0, mac=""),)
    assert file.domain.memory_kib == 64 * 1024


def test_other_keys_go_to_the_xl_table() -> None:
    file = read_file("name = 'a'\nvfb = [ 'vnc=1' ]\npae = 1\nserial = 'pty'\nvnuma = [ [ 'pnode=0' ] ]\n", {})
    assert file.domain is not None
    assert file.domain.xl == (("pae", 1), ("serial", "pty"), ("vfb", ("vnc=1",)), ("vnuma", (("pnode=0",),)))
    assert file.unsaid == ()


def test_lists_that_are_nested_deeper_than_xl_reads_are_left_out() -> None:
    file = read_file("name = 'a'\nvnuma = [ [ 'pnode=0', [ 'x' ] ], [ 'y' ] ]\n", {})
    assert file.domain is not None
    assert file.domain.xl == (("vnuma", (("y",),)),)
    assert file.ignored == ("vnuma has lists nested more than two deep, which xl reads nowhere.",)


def test_the_devices_of_a_file_that_xl_refuses_are_known_all_the_same() -> None:
    file = read_file(
        "name = 'a'\nuuid = 'oops'\ndisk = [ '/srv/a,raw,xvda,w', '/srv/b' ]\nvif = [ 'bridge=br0' ]\n", {}
    )
    assert file.domain is None
    assert file.problem == 'uuid is "oops", which is no UUID.'
    assert [disk.target for disk in file.disks] == ["/srv/a"]
    assert [vif.bridge for vif in file.vifs] == ["br0"]


@given(domains())
def test_what_we_wrote_is_read_alike_line_by_line_and_by_all_the_rules(domain: Domain) -> None:
    body = render_body(domain)
    plain, values = read_plain(body), parse_cfg(body)
    if plain is not None:
        assert (plain, list(plain)) == (values, list(values))
        assert [type(value) for value in plain.values()] == [type(value) for value in values.values()]
    else:
        assert any(mark in body for mark in ("\\", "= [", "# "))


@pytest.mark.parametrize(
    "text",
    [
        "memory = 512",
        "memory=512\n",
        "memory = 512 # MiB\n",
        "name = 'web'\n",
        'name = "a\\"b"\n',
        "vif = [ ]\n",
        "a = 1\na = 2\n",
        'a = [\n    ["x"],\n]\n',
        'a = "x" \n',
        "a = 1\n\n",
    ],
)
def test_what_is_not_as_we_write_it_is_read_by_all_the_rules(text: str) -> None:
    assert read_plain(text) is None
