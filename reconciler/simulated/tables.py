"""What a simulated host keeps by name: found by name or by what it is about, summed up, and changed in drafts.

A host may hold thousands of domains, and a step on one of them must not pay for the others. So nothing here is copied
or gone through for a step: a table keeps its sums and its lists while values come and go, and a draft only notes what
differs from the table. Used by `journal`, which keeps the tables; values are never changed in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TypeVar

V = TypeVar("V")
About = Callable[[str, V], Iterable[tuple[str, int]]]
"""Says what an entry is about: labels, each with what it adds to the sum of that label."""


class Table(Mapping[str, V]):
    """The values by name as they are stored.

    >>> sizes = Table({"/srv/a": 5, "/srv/b": 7}, lambda path, size: [(path.rpartition("/")[0], size)])
    >>> draft = TableDraft(sizes)
    >>> draft["/srv/b"] = 10
    >>> sorted(draft.about("/srv")), draft.total("/srv"), sizes.total("/srv")
    (['/srv/a', '/srv/b'], 15, 12)
    >>> sizes.put(draft.changed)
    >>> sizes.total("/srv")
    15
    """

    def __init__(self, values: dict[str, V], about: About[V]) -> None:
        self._values = values
        self.labels = about
        self._named: dict[str, str | set[str]] = {}  # most labels are of one entry, and a set for each would be large
        self._totals: Counter[str] = Counter()
        for name, value in values.items():
            self._count(name, value)

    def __getitem__(self, name: str) -> V:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def about(self, label: str) -> Iterable[str]:
        """Return the names of what is about this."""
        names = self._named.get(label, ())
        return (names,) if isinstance(names, str) else names

    def total(self, label: str) -> int:
        """Return the sum of what all entries add to this label."""
        return self._totals[label]

    def put(self, changed: Mapping[str, V | None]) -> None:
        """Take over values; None for what is gone."""
        for name, value in changed.items():
            before = self._values.get(name)
            if before is not None:
                self._discount(name, before)
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value
                self._count(name, value)

    def _count(self, name: str, value: V) -> None:
        for label, amount in self.labels(name, value):
            names = self._named.setdefault(label, name)
            if isinstance(names, set):
                names.add(name)
            elif names != name:
                self._named[label] = {names, name}
            if amount:
                self._totals[label] += amount

    def _discount(self, name: str, value: V) -> None:
        for label, amount in self.labels(name, value):
            if amount:
                self._totals[label] -= amount
            names = self._named.get(label)
            if isinstance(names, set):
                names.discard(name)
            if not names or names == name:  # an entry may be about one thing twice
                self._named.pop(label, None)
                self._totals.pop(label, None)


class TableDraft(MutableMapping[str, V]):
    """A table with what a draft changed in it. The table stays as it is, and has to while the draft is in use."""

    def __init__(self, table: Table[V]) -> None:
        self._table = table
        self.changed: dict[str, V | None] = {}  # None: gone

    def __getitem__(self, name: str) -> V:
        if name not in self.changed:
            return self._table[name]
        value = self.changed[name]
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: V) -> None:
        self.changed[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.changed[name] = None

    def __iter__(self) -> Iterator[str]:
        if not self.changed:
            return iter(self._table)
        kept = [name for name in self._table if self.changed.get(name, self._table[name]) is not None]
        return iter([*kept, *(name for name, value in self.changed.items() if self._is_new(name, value))])

    def __contains__(self, name: object) -> bool:
        return self.changed[str(name)] is not None if name in self.changed else name in self._table

    def __len__(self) -> int:
        new = sum(self._is_new(name, value) for name, value in self.changed.items())
        gone = sum(value is None and name in self._table for name, value in self.changed.items())
        return len(self._table) + new - gone

    def _is_new(self, name: str, value: V | None) -> bool:
        return value is not None and name not in self._table

    def about(self, label: str) -> list[str]:
        """Return the names of what is about this, sorted."""
        kept = (name for name in self._table.about(label) if name not in self.changed)
        put = (
            name
            for name, value in self.changed.items()
            if value is not None and any(label == one for one, _ in self._table.labels(name, value))
        )
        return sorted({*kept, *put})

    def total(self, label: str) -> int:
        """Return the sum of what all entries add to this label."""
        was = ((name, self._table[name]) for name in self.changed if name in self._table)
        now = ((name, value) for name, value in self.changed.items() if value is not None)
        return self._table.total(label) + self._sum(now, label) - self._sum(was, label)

    def _sum(self, entries: Iterable[tuple[str, V]], label: str) -> int:
        return sum(amount for name, value in entries for one, amount in self._table.labels(name, value) if one == label)

    def differing(self) -> dict[str, V | None]:
        """Return what really differs from the table, by name in their order; None for what is gone."""
        return {
            name: self.changed[name] for name in sorted(self.changed) if self.changed[name] != self._table.get(name)
        }
