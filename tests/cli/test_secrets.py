"""Passwords in specs are in no output but `render`, in no log and in no file that a controller keeps for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.specs.secrets import concealed
from tests.cli.conftest import Run

SECRETS = ("hunter", "swordfish", "open sesame")
SPEC = """kernel = "/boot/vmlinuz"
memory = 256
[xl]
vncpasswd = "hunter{n}"
spice = 1
spicepasswd = "swordfish{n}"
vfb = ["vnc=1,vncpasswd=open sesame{n},vnclisten=::"]
"""


@pytest.fixture
def web(tree: Path) -> Path:
    (tree / "specs/alpha/host.toml").write_text('toolstack = "simulated"\n[allow]\nxl_keys = ["vfb"]\n')
    spec = tree / "specs/alpha/web.toml"
    spec.write_text(SPEC.format(n=1))
    return spec


def test_no_output_has_a_password(run: Run, tree: Path, web: Path) -> None:
    said = []

    def say(*arguments: str) -> None:
        ran = run(*arguments)
        said.append(ran.out + ran.err)

    def say_all() -> None:
        for form in ([], ["--json"], ["--markdown"], ["--format", "github"], ["--steps"]):
            say("plan", *form)
        for command in ("status", "why", "kernels"):
            say(command, *(["alpha/web"] if command == "why" else []))
            say(command, *(["alpha/web"] if command == "why" else []), "--json")

    say_all()
    say("apply", "--yes")
    web.write_text(SPEC.format(n=2))
    say_all()
    run("sim", "alpha", "fault", "create-fails", "--times", "9")
    say("watch", "--once", "--log-format", "json")
    say("status")
    say("history", "--json")
    web.write_text(SPEC.format(n=3) + 'spicepasswd = "swordfish4"\n')  # given twice
    say("plan")
    web.write_text('vncpasswd = "hunter4"\nmemory = 1\n')  # not where it belongs
    say("validate")
    text = "".join(said)
    assert "xl.vncpasswd" in text
    assert "(sensitive) → (sensitive)" in text
    assert not [secret for secret in SECRETS if secret in text]
    kept = [file for file in (tree / ".state").rglob("*") if file.is_file() and "hosts" not in file.parts]
    assert kept
    assert not [file for file in kept if any(secret.encode() in file.read_bytes() for secret in SECRETS)]


def test_a_saved_plan_which_has_them_is_for_its_owner_alone(run: Run, tree: Path, web: Path) -> None:
    run("plan", "--out", "all.plan")
    assert (tree / "all.plan").stat().st_mode & 0o777 == 0o600
    assert run("apply", "all.plan", "--yes").code == 0
    assert "hunter1" in run("render", "alpha/web").out


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("xl.vncpasswd", '"a"', "(sensitive)"),
        ("xl.vncpasswd", '""', '""'),  # no password, which is worth seeing
        ("xl.vncpasswd", None, None),
        ("xl.spicepasswd", 1234, "(sensitive)"),
        ("xl.vncpasswd_file", '"/etc/xen/pw"', '"/etc/xen/pw"'),
        ("xl.vfb", '["vncpasswd=a b\\"c,vnc=1"]', '["vncpasswd=(sensitive),vnc=1"]'),
        ("xl.vfb", '["vncpasswd="]', '["vncpasswd="]'),
        (
            "xl.device_model_args",
            '["-object", "secret,id=s,data=abc,format=raw"]',
            '["-object", "secret,id=s,data=(sensitive),format=raw"]',
        ),
        (
            "disk[xvda].target",
            "iqn=x,portal=10.0.0.1,user=u,password=p,multipath=y",
            "iqn=x,portal=10.0.0.1,user=u,password=(sensitive),multipath=y",
        ),
        (
            "disk[xvda]",
            "vdev=xvda, target=rbd:pool/web:id=admin:key=AQ==:mon_host=m",
            "vdev=xvda, target=rbd:pool/web:id=admin:key=(sensitive):mon_host=m",
        ),
        ("disk[xvda].target", "nbd://me:pw@host/x", "nbd://me:(sensitive)@host/x"),
        ("cmdline", "root=/dev/xvda1 password=p,q quiet", "root=/dev/xvda1 password=(sensitive) quiet"),
        ("memory", 1024, 1024),
    ],
)
def test_what_is_shown_of_a_value(path: str, value: str | int | None, shown: str | int | None) -> None:
    assert concealed(path, value) == shown


def test_no_password_of_a_receiver_is_shown_where_it_must_not_be(run: Run, tree: Path, web: Path) -> None:
    settings = '[[notify]]\nurl = "https://ops:hunter5@hooks.example.org/"\n[[notify]]\ntoken = "swordfish5"\n'
    (tree / "specs/reconciler.toml").write_text(settings)
    said = "".join(ran.out + ran.err for ran in (run("validate"), run("plan"), run("validate", "--json")))
    assert "must not contain a name or password" in said
    assert not [secret for secret in SECRETS if secret in said]


def test_import_says_that_it_found_one_and_not_which(run: Run, tree: Path) -> None:
    (tree / "desk.cfg").write_text('name = "desk"\nkernel = "/k"\nmemory = 64\nvnc = 1\nvncpasswd = "hunter9"\n')
    run("sim", "alpha", "put", "/etc/xen/desk.cfg", "desk.cfg")
    run("sim", "alpha", "create", "desk")
    said = run("import", "alpha").err
    assert "alpha/desk has a password\n" in said
    assert "hunter9" not in said
    assert 'vncpasswd = "hunter9"' in (tree / "specs/alpha/desk.toml").read_text()
