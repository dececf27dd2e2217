"""`reconciler explain`: what the table of keys says of one."""

from __future__ import annotations

import json

import pytest

from reconciler.inspect.explain import every_key
from tests.cli.conftest import Run


def test_a_key_is_explained(run: Run) -> None:
    assert (
        run("explain", "memory").out
        == """\
memory
  The memory that the domain has: an integer counts MiB.

  type        a size
  unit        an integer counts MiB; else "512MiB", "2GiB"
  default     none: it may be left out
  change      live
  xl.cfg      memory, in MiB
  xl list -l  b_info.target_memkb
  example     memory = "2GiB"
  since       0.1
"""
    )


@pytest.mark.parametrize("path", sorted({key.path for key in every_key()}))
def test_every_key_is_told_in_full(run: Run, path: str) -> None:
    for told in json.loads(run("explain", path, "--json").out)["keys"]:
        assert told["key"] == path
        of_xl = () if ".toml" in (told["table"] or "") or path.startswith("pci.") else ("change", "xl_cfg")
        assert all(told[fact] for fact in ("meaning", "type", "default", "since", *of_xl))


def test_a_key_of_host_toml_is_explained(run: Run) -> None:
    assert (
        run("explain", "keep_free").out
        == """\
keep_free  in host.toml
  Memory that is never given to domains, beside what Xen and the dom0 take.

  type        a size
  unit        an integer counts MiB; else "512MiB", "2GiB"
  default     "0"
  example     keep_free = "512MiB"
  since       0.1
"""
    )


def test_a_key_of_several_files_is_told_for_each(run: Run) -> None:
    told = run("explain", "max_unavailable").out
    assert "max_unavailable  in host.toml\n" in told
    assert "max_unavailable  in reconciler.toml\n" in told


def test_a_path_as_plans_write_it_and_a_bare_name_are_found(run: Run) -> None:
    assert run("explain", "disk[xvda].size").out.startswith("disk.size  in [[disk]]\n")
    both = run("explain", "script").out
    assert [line.split()[0] for line in both.splitlines() if "  in [[" in line] == ["disk.script", "vif.script"]


def test_what_a_change_takes_is_said(run: Run) -> None:
    assert "change      restart to raise it, next start to lower it" in run("explain", "maxmem").out
    assert "default     as memory" in run("explain", "maxmem").out
    assert "change      nothing" in run("explain", "state").out
