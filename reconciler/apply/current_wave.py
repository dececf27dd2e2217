"""Tells which wave is under way: one begins when every step of the lower ones has been done. Used by `follow`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from reconciler.plan.steps import PlannedStep


class Waves:
    """Counts what is left of each wave. With a step that fails or is left out, no higher wave begins any more.

    >>> from reconciler.plan.steps import RemoveConfig
    >>> low = PlannedStep(id="s1", host="alpha", step=RemoveConfig(domain="a"), wave=-1)
    >>> high = PlannedStep(id="s2", host="alpha", step=RemoveConfig(domain="b"), wave=0)
    >>> waves = Waves([low, high])
    >>> waves.may_begin(low), waves.may_begin(high)
    (True, False)
    >>> [step.id for step in waves.done(low)], waves.may_begin(high)
    (['s2'], True)
    """

    def __init__(self, steps: Iterable[PlannedStep]) -> None:
        steps = list(steps)
        self._left = Counter(step.wave for step in steps)
        self._rest = sorted(self._left, reverse=True)  # the one under way is the last
        self._offered: dict[int, list[PlannedStep]] = defaultdict(list)  # steps that could begin but for their wave
        self._broken = False

    def may_begin(self, step: PlannedStep) -> bool:
        """Return whether the wave of a step is under way. If not, `done` gives the step back when it is."""
        if step.wave <= self._rest[-1]:
            return True
        self._offered[step.wave].append(step)
        return False

    def done(self, step: PlannedStep) -> list[PlannedStep]:
        """Count a step that was done. Returns the steps that can begin since their wave begins with it."""
        self._left[step.wave] -= 1
        while not self._broken and len(self._rest) > 1 and not self._left[self._rest[-1]]:
            self._rest.pop()
        return self._offered.pop(self._rest[-1], [])

    def broken_by(self, step: PlannedStep) -> bool:
        """Note that a step was not done. Returns whether it is the first one."""
        first, self._broken = not self._broken, True
        return first
