"""Durations as values of options: `90s`, `2h`, `7d`."""

from __future__ import annotations

import click

from reconciler.model.quantities import Unfit, duration_seconds, period_seconds

_DAY_SECONDS = 24 * 3600


class Duration(click.ParamType[float]):
    """A duration, as seconds."""

    name = "time"

    def __init__(
        self, *, at_least_seconds: float = 0, at_most_days: int | None = None, may_be_days: bool = False
    ) -> None:
        self._read = period_seconds if may_be_days else duration_seconds
        self._at_least = at_least_seconds
        self._at_most_days = at_most_days

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return value
        try:
            seconds = self._read(value)
        except Unfit as error:
            self.fail(f"it {error}. {error.hint or ''}".strip(), param, ctx)
        if seconds < self._at_least:
            self.fail(f"it must be {self._at_least:g}s at least.", param, ctx)
        if self._at_most_days is not None and seconds > self._at_most_days * _DAY_SECONDS:
            self.fail(f"it must be {self._at_most_days}d at most.", param, ctx)
        return seconds
