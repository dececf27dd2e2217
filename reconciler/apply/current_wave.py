"""Tells which wave is under way: one begins when every step of the lower ones has ended. Used by `follow`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from reconciler.plan.steps import PlannedStep


class Waves:
    """Counts what is left of each wave.

    >>> from reconciler.plan.steps import RemoveConfig
    >>> low = PlannedStep(id="s1", host="alpha", step=RemoveConfig(domain="a"), wave=-1)
    >>> high = PlannedStep(id="s2", host="alpha", step=RemoveConfig(domain="b"), wave=0)
    >>> waves = Waves([low, high])
    >>> waves.may_begin(low), waves.may_begin(high)
    (True, False)
    >>> [step.id for step in waves.ended(low)], waves.may_begin(high)
    (['s2'], True)
    """

    def __init__(self, steps: Iterable[PlannedStep]) -> None:
        steps = list(steps)
        self._left = Counter(step.wave for step in steps)
        self._rest = sorted(self._left, reverse=True)  # the one under way is the last
        self._offered: dict[int, list[PlannedStep]] = defaultdict(list)  # steps that could begin but for their wave

    def may_begin(self, step: PlannedStep) -> bool:
        """Return whether the wave of a step is under way. If not, `ended` gives the step back when it is."""
        if step.wave <= self._rest[-1]:
            return True
        self._offered[step.wave].append(step)
        return False

    def ended(self, step: PlannedStep) -> list[PlannedStep]:
        """Count a step that was done, failed or is left out. Returns the steps that can begin since their wave does."""
        self._left[step.wave] -= 1
        while len(self._rest) > 1 and not self._left[self._rest[-1]]:
            self._rest.pop()
        return self._offered.pop(self._rest[-1], [])
