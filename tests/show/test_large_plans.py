"""A plan for a whole fleet: as many lines as there is to say, and still a comment that a forge accepts."""

from __future__ import annotations

from reconciler.decide.changes import Consent
from reconciler.model.domain import Domain, Image
from reconciler.model.fleet import Desired, DesiredHost, HostSettings
from reconciler.model.host import Host
from reconciler.plan.plan import Plan, build_plan
from reconciler.show import documents
from reconciler.show.markdown import plan_markdown
from reconciler.show.text import plan_text

DOMAINS = 500
_GITHUB_COMMENT_MAX = 65_536  # characters


def large_plan() -> Plan:
    memory_kib = 64 * 1024
    domains = {
        name: Domain(
            name=name,
            uuid=f"{number:036}",
            kernel=Image(sha256="a" * 64, path=f"/var/lib/xen/kernels/{name}/linux.aaaaaaaaaaaa", source="linux"),
            memory_kib=memory_kib,
            maxmem_kib=memory_kib,
        )
        for number, name in ((number, f"web{number}") for number in range(DOMAINS))
    }
    settings = HostSettings(name="alpha", toolstack="simulated")
    desired = Desired(fleet="default", hosts={"alpha": DesiredHost(settings=settings, domains=domains)})
    host = Host(name="alpha", total_kib=DOMAINS * memory_kib * 2, free_kib=DOMAINS * memory_kib * 2, cpus=8)
    return build_plan(desired, {"alpha": host}, Consent())


def test_text_takes_a_line_a_new_domain() -> None:
    shown = plan_text(large_plan())
    assert len(shown.splitlines()) < DOMAINS + 10
    assert "--target ADDRESS" in shown
    assert shown.endswith(f"Plan: {DOMAINS} to create.\n")


def test_markdown_fits_into_a_comment() -> None:
    shown = plan_markdown(large_plan())
    assert len(shown) < _GITHUB_COMMENT_MAX
    assert f"and {DOMAINS - 100} more" in shown


def test_json_leaves_nothing_out_and_is_the_same_each_time() -> None:
    document = documents.plan_document(large_plan())
    assert len(document["changes"]) == DOMAINS
    assert document["summary"]["create"] == DOMAINS
    assert documents.as_text(document) == documents.as_text(documents.plan_document(large_plan()))


def test_keys_come_in_the_order_of_the_contract() -> None:
    document = documents.plan_document(large_plan())
    keys = ("format", "digest", "commit", "hosts", "changes", "steps", "ledger", "unmanaged", "diagnostics", "summary")
    assert [key for key in document if key in keys] == list(keys)
    assert list(document["changes"][0])[:8] == [
        *("address", "action", "reason", "fields", "downtime_seconds", "waits_for", "blocked", "pending")
    ]
    assert list(document["steps"][0])[:5] == ["id", "kind", "address", "needs", "memory_kib"]
    assert list(document["summary"])[:11] == [
        *("create", "update", "restart", "destroy", "start", "stop", "adopt", "migrate", "blocked", "pending", "no-op")
    ]
