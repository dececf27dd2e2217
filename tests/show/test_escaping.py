"""Nothing that a spec, a host or a guest says may reach a terminal, a web page or a CI log as an instruction."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.apply.result import ApplyResult, StepResult
from reconciler.decide.changes import Action, Change
from reconciler.decide.diff import Effect, FieldChange, Pending
from reconciler.model.diagnostics import Diagnostic, Kind, Source
from reconciler.model.domain import Ready
from reconciler.plan.plan import HostSummary, Plan
from reconciler.plan.steps import AwaitReady, PlannedStep
from reconciler.show import diagnostics, documents, escape
from reconciler.show.markdown import plan_markdown
from reconciler.show.results import apply_text
from reconciler.show.text import plan_text

# A terminal's escapes in 7 and 8 bits, a carriage return over the line, a bell, letters read from right to left, a
# line separator, half a surrogate pair.
HOSTILE = "\x1b[2J\x9b31m\rfine\a\u202egnp.exe\u2028\ud800"
HOSTILE_MARKUP = "</details><script>alert(1)</script> @everyone `x` | [a](http://b) ![i](j)"
_UNSAFE = re.compile(r"[^\x20-\x7e\n\xa1-\u2027\u2030-\ud7ff]")


def hostile_plan(text: str) -> Plan:
    change = Change(
        host="alpha",
        domain="web",
        action=Action.UPDATE,
        reason=text,
        fields=(FieldChange(path=f"xl.{text}", before=text, after=text, effect=Effect.LIVE),),
        blocked=text,
        hint=text,
        pending=(Pending(field=FieldChange(path=text, before=text, after=text, effect=Effect.LIVE), why=text),),
        waits_for=(text,),
    )
    step = PlannedStep(id="s1", host="alpha", step=AwaitReady(domain=text, uuid="", ready=Ready()))
    return Plan(
        commit=None,
        hosts={"alpha": HostSummary(observed=False), text: HostSummary(observed=False)},
        changes=(change, replace(change, domain=text, action=Action.BLOCKED)),
        steps=(step,),
        ledger=(),
        unmanaged=(f"alpha/{text}",),
        diagnostics=(problem(text),),
        base={},
    )


def problem(text: str) -> Diagnostic:
    source = Source(path=text, line=3, column=2, text=f"a{text}b", length=len(text))
    return Diagnostic(kind=Kind.SPEC, summary=text, detail=text, hint=text, address=text, source=source)


def test_a_terminal_gets_no_control_characters() -> None:
    plan = hostile_plan(HOSTILE)
    failed = StepResult(step=plan.steps[0], problem=replace(problem(HOSTILE), source=None))
    skipped = StepResult(step=plan.steps[0], reason=HOSTILE)
    shown = (
        plan_text(plan, steps=True)
        + diagnostics.text(plan.diagnostics)
        + diagnostics.text([replace(problem(HOSTILE), source=None)])
        + apply_text(ApplyResult(failed=(failed,), skipped=(skipped,)))
    )
    assert not _UNSAFE.search(shown)
    assert r"\x1b[2J\x9b31m" in shown


def test_json_is_ascii_so_it_carries_no_escapes() -> None:
    text = HOSTILE.replace("\ud800", "")  # which has no digest: nothing that TOML or UTF-8 can hold
    shown = documents.as_text(documents.plan_document(hostile_plan(text)))
    assert not re.search(r"[^\x20-\x7e\n]", shown)


def test_markdown_gets_neither_html_nor_mentions() -> None:
    shown = plan_markdown(hostile_plan(HOSTILE_MARKUP))
    outside_code = re.sub(r"(`+).*?\1", "", shown)
    outside_html = re.sub(r"<summary>.*</summary>", "", outside_code)  # where Markdown means nothing
    assert "<script" not in outside_code
    assert "@everyone" not in outside_code
    assert outside_code.count("</details>") == outside_code.count("<details>")
    assert not re.search(r"(?<!\\)\[a", outside_html)


def test_a_code_span_ends_where_it_should() -> None:
    assert escape.markdown_code("a``b`c") == "``` a``b`c ```"
    assert escape.markdown_code("a|b") == r"`a\|b`"


def test_an_annotation_stays_one_command() -> None:
    shown = diagnostics.github([problem("a,b:c%\n::set-env name=PATH::/evil")])
    assert shown.count("\n") == 1
    assert shown.startswith("::error file=a%2Cb%3Ac%25%0A%3A%3Aset-env name=PATH%3A%3A/evil,line=3,col=2,title=")


@given(st.text())
def test_plain_text_is_always_printable(text: str) -> None:
    assert escape.plain(text).isprintable()


@pytest.mark.parametrize("text", ["", 'kernel = "/boot/vmlinuz"', "naïve → 日本 ±"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert escape.plain(text) == text
