"""What an apply came to, for people: what failed and why first to the eye, what was done as a count."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.apply import ApplyResult, StepResult
from reconciler.core.steps import AwaitReady, Fallback
from reconciler.render.escape import plain, plain_lines
from reconciler.render.paint import Paint, no_paint
from reconciler.render.steps import in_words


def apply_text(result: ApplyResult, fallbacks: Sequence[Fallback] = (), paint: Paint = no_paint) -> str:
    """What was done, what failed, who fell back, what was skipped and why. `fallbacks` are those of the plan."""
    sections = [_failed(step, paint) for step in result.failed]
    sections += [
        f"{plain(address)} runs its last proven definition again." for address in _fell_back(result, fallbacks)
    ]
    skipped = _skipped(result.skipped)
    if skipped:
        sections.append("\n".join(("Skipped:", *skipped)))
    sections.append(paint(_headline(result), "bold"))
    return "\n\n".join(sections) + "\n"


def _fell_back(result: ApplyResult, fallbacks: Sequence[Fallback]) -> list[str]:
    """Addresses whose way back was followed to its end, where the old definition is ready again."""
    ends = {step.id for fallback in fallbacks for step in fallback.steps if isinstance(step.step, AwaitReady)}
    return sorted(done.step.address for done in result.done if done.step.id in ends)


def _headline(result: ApplyResult) -> str:
    done = _addresses(result.done) - _addresses(result.failed) - _addresses(result.skipped)
    parts = [f"{len(result.done)} {'step' if len(result.done) == 1 else 'steps'} done"]
    parts += [f"{len(result.failed)} failed"] if result.failed else []
    parts += [f"{len(result.skipped)} skipped"] if result.skipped else []
    complete = f" Complete: {', '.join(sorted(map(plain, done)))}." if 0 < len(done) <= 20 else ""
    complete = f" Complete: {len(done)} domains." if len(done) > 20 else complete
    return f"Applied: {', '.join(parts)}.{complete}"


def _addresses(results: tuple[StepResult, ...]) -> set[str]:
    return {result.step.address for result in results}


def _failed(result: StepResult, paint: Paint) -> str:
    assert result.problem is not None
    lines = [f"{paint('failed:', 'red')} {plain(result.step.address)}: {in_words(result.step.step)}"]
    lines += plain_lines(result.problem.detail or result.problem.summary)
    lines += [f"{paint('hint:', 'cyan')} {plain(result.problem.hint)}"] if result.problem.hint else []
    return "\n  ".join(lines)


def _skipped(results: tuple[StepResult, ...]) -> list[str]:
    """One line a domain and reason, however many of its steps were skipped."""
    steps: dict[tuple[str, str], int] = {}
    for result in results:
        key = (result.step.address, result.reason or "")
        steps[key] = steps.get(key, 0) + 1
    return [
        f"  {plain(address)}  {count} {'step' if count == 1 else 'steps'}: {plain(reason)}"
        for (address, reason), count in sorted(steps.items())
    ]
