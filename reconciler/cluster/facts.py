"""What each controller knows of the hosts that it has, for the others: one key a host, which outlives that controller.

Only who has the claim of a host writes its key, and only when something in it changed; times that go on are none of
that. So whoever shows the fleet, or decides what speaks of all of it, looks at its own hosts and reads of the others.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import zlib
from collections.abc import Collection, Mapping

from reconciler.cluster.etcd import Condition, Etcd, Put
from reconciler.cluster.keys import FACTS_A_PAGE, FACTS_BYTES, Facts, Names, read
from reconciler.cluster.sharing import Known, Told
from reconciler.inspect.observed import Observed, observed_document, read_observed
from reconciler.model.diagnostics import ReconcilerError
from reconciler.model.host import Host, is_same

_UNPACKED_BYTES = 16 << 20  # several times what 5,000 domains need


class AllFacts:
    """The facts of all hosts as etcd last told them, and what this controller has told of its own."""

    def __init__(self, etcd: Etcd, names: Names) -> None:
        self._etcd, self._names = etcd, names
        self.era = 0  # how often all was forgotten
        self._revision = 0
        self._texts: dict[str, str] = {}  # as etcd has them
        self._facts: dict[str, Facts] = {}
        self._seen: dict[str, tuple[str, Observed | None]] = {}  # what was unpacked, and from what
        self._told: dict[str, tuple[Facts, Host | None, str]] = {}  # of our hosts: what it says, and its text

    def begin_anew(self) -> None:
        """Forget all that was read and told, since etcd may have been emptied: its revisions may begin anew, too."""
        self.era += 1
        self._revision = 0
        self._texts, self._facts, self._told = {}, {}, {}

    def of(self, host: str) -> Facts | None:
        return self._facts.get(host)

    async def renew(self) -> set[str]:
        """Read what was written since. Returns the hosts of which something else is known now."""
        prefix = self._names.facts_of_all
        since = self._revision + 1 if self._revision else 0
        listing = await self._etcd.list(prefix, since=since, page=FACTS_A_PAGE)
        texts = {**self._texts, **{one.key.removeprefix(prefix): one.value for one in listing.entries}}
        if since and (listing.revision < self._revision or listing.count != len(texts)):  # emptied, restored, forgotten
            listing = await self._etcd.list(prefix, page=FACTS_A_PAGE)
            texts = {one.key.removeprefix(prefix): one.value for one in listing.entries}
        changed = {host for host in {*texts, *self._texts} if texts.get(host) != self._texts.get(host)}
        for host in changed:
            facts = read(Facts, texts[host], FACTS_BYTES) if host in texts else None
            self._facts.pop(host, None)
            self._facts |= {host: facts} if facts is not None else {}
        self._texts, self._revision = texts, listing.revision
        return changed

    def hosts(self) -> set[str]:
        return set(self._texts)

    def untold(self, hosts: Collection[str], ours: Collection[str]) -> set[str]:
        """Return those of these hosts that nobody has told of yet; `ours` we have to tell of ourselves."""
        return {host for host in hosts if host not in (self._told if host in ours else self._texts)}

    async def seen(self, fleet: str) -> dict[str, Host]:
        """Return the hosts as they are told of now, less those of which that is not understood."""
        told = {host: await self.told(host, fleet, is_unreached=False) for host in self._facts}
        return {host: one.seen.hosts[host].host for host, one in told.items() if one is not None and one.seen}

    async def told(self, host: str, fleet: str, *, is_unreached: bool) -> Told | None:
        """Return what is told of a host; None where that is nothing, or not understood."""
        facts, era = self._facts.get(host), self.era
        if facts is None or not (facts.seen or facts.problem):
            return None
        known = self._seen.get(host)
        if known is None or known[0] != facts.seen:
            known = facts.seen, await asyncio.to_thread(unpacked, facts.seen, fleet) if facts.seen else None
            self._seen[host] = known
        seen = known[1] if known[1] is not None and host in known[1].hosts else None
        if seen is None and not facts.problem:
            return None
        return Told(
            who=facts.who,
            at=facts.at,
            seen=seen,
            domains=facts.domains,
            problem=facts.problem,
            is_unreached=is_unreached,
            era=era,
        )

    async def tell(self, host: str, written: int, facts: Facts, known: Known) -> None:
        """Write the facts of a host whose claim was written then, where they are not what was told last."""
        before, there = self._told.get(host), known.host
        if before is not None and before[0] == facts and is_same(before[1], there):
            return
        packed = await asyncio.to_thread(packed_of, known.observed) if there is not None else ""
        told = facts.model_copy(update={"at": time.time(), "seen": packed})
        text = told.model_dump_json()
        if len(text) > FACTS_BYTES:
            text = told.model_copy(update={"seen": "", "domains": {}}).model_dump_json()  # others look themselves
        if await self._put(host, written, text):
            self._told[host] = facts, there, text

    async def tell_again(self, claims: Mapping[str, int]) -> None:
        """Write anew what we told of these hosts of ours and etcd does not have any more."""
        for host in self._told.keys() - claims.keys():
            del self._told[host]
        for host, (_, _, text) in list(self._told.items()):
            if self._texts.get(host) != text:
                await self._put(host, claims[host], text)

    async def _put(self, host: str, written: int, text: str) -> bool:
        claim = Condition(key=self._names.claim(host), written=written)
        done = await self._etcd.commit([claim], [Put(self._names.facts(host), text)])
        if done:
            self._texts[host] = text
            facts = read(Facts, text, FACTS_BYTES)
            self._facts |= {host: facts} if facts is not None else {}
        return done


def facts_of(known: Known, who: str, version: str, specs: str, token: int) -> Facts:
    """Return what is told of a host but for its look, as these say it."""
    return Facts(
        who=who,
        version=version,
        specs=specs,
        token=token,
        domains={**known.domains},
        stuck=known.host.stuck if known.host is not None else (),
        problem=known.problem,
    )


def packed_of(observed: Observed) -> str:
    """Write how a host was seen as text that etcd can keep; "" where that is too long. Secrets are in it as digests.

    >>> from datetime import UTC, datetime
    >>> from reconciler.inspect.observed import Seen
    >>> from reconciler.model.host import Host
    >>> from reconciler.toolstack import Question
    >>> host = Host(name="alpha", total_kib=1, free_kib=1, cpus=1)
    >>> seen = Seen(host=host, question=Question(), at=datetime(2026, 1, 2, tzinfo=UTC))
    >>> text = packed_of(Observed(fleet="prod", key=b"k", hosts={"alpha": seen}))
    >>> unpacked(text, "prod").hosts["alpha"] == seen, unpacked(text, "test"), unpacked("by hand", "prod")
    (True, None, None)
    """
    text = json.dumps(observed_document(observed), ensure_ascii=False, separators=(",", ":"))
    document = text.encode(errors="surrogatepass")
    return base64.b64encode(zlib.compress(document)).decode() if len(document) <= _UNPACKED_BYTES else ""


def unpacked(text: str, fleet: str) -> Observed | None:
    """Read it again; None where it is not understood, as where another version wrote it."""
    try:
        unpacking = zlib.decompressobj()
        document = unpacking.decompress(base64.b64decode(text, validate=True), _UNPACKED_BYTES)
        if not unpacking.eof:  # it is longer than any of ours, or cut off
            return None
        return read_observed(json.loads(document.decode(errors="surrogatepass")), fleet)
    except (ValueError, zlib.error, ReconcilerError, RecursionError, MemoryError):
        return None
