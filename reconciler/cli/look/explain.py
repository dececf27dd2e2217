"""`reconciler explain`: what a key of a spec means. Asks no host, and reads no specs."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from reconciler.cli.output import paint_for, print_data, print_text
from reconciler.inspect.explain import Explained, every_key, explained
from reconciler.model.diagnostics import ReconcilerError, usage_error
from reconciler.show.documents import FORMAT, as_text
from reconciler.show.paint import Paint
from reconciler.specs.resolve.xl_keys import HARMLESS, REACHES
from reconciler.specs.schema import MODELS
from reconciler.specs.schema_errors import near_miss


class _Key(click.ParamType[str]):
    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(path, help=one.key.doc) for path, one in every_key().items() if path.startswith(incomplete)
        ]


@click.command(short_help="Tell what a key of a spec means.")
@click.argument("key", type=_Key())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(key: str, as_json: bool) -> None:
    """Tell what KEY of a domain spec means: its type, unit and default, what a change of it takes, an example, and its
    name in xl.cfg. A key of a table is written with it: disk.size, vif.bridge, ready.timeout.
    """
    found = explained(key)
    if not found:
        raise _unknown(key)
    if as_json:
        print_data(as_text({"format": FORMAT, "keys": [_document(one) for one in found]}))
    else:
        print_text("\n".join(_text(one, paint_for(sys.stdout)) for one in found))


def _text(one: Explained, paint: Paint) -> str:
    facts = [(word, fact.replace("`", "").split("\n")) for word, fact in one.facts()]
    lines = [paint(one.path, "bold") + (f"  in {one.table}" if one.table else ""), f"  {one.key.doc}", ""]
    for word, (first, *more) in facts:
        lines += [f"  {word:<10}  {first}", *(f"  {'':<10}  {line}" for line in more)]
    return "\n".join(lines) + "\n"


def _document(one: Explained) -> dict[str, Any]:
    facts = {word.replace(" ", "_").replace(".", "_").replace("-", ""): fact for word, fact in one.facts()}
    return {"key": one.path, "table": one.table or None, "meaning": one.key.doc, **facts}


def _unknown(key: str) -> ReconcilerError:
    name = key.removeprefix("xl.")
    if name in HARMLESS:
        detail = f"{name} is a key of xl.cfg(5) that is passed on as it is; host.toml need not allow it."
        return usage_error("no key of a spec", detail, f"Write it under [xl]: {name} = …")
    if name in REACHES:
        detail = f"{name} is a key of xl.cfg(5) that is passed on as it is, and {REACHES[name]}."
        return usage_error("no key of a spec", detail, f'Write it under [xl], and in host.toml: xl_keys = ["{name}"]')
    for kind, file in (("host", "host.toml"), ("tree", "reconciler.toml")):
        fields = MODELS[kind].model_fields  # type: ignore[index]  # mypy takes the pair for plain strings
        if key.partition(".")[0] in {field.alias or named for named, field in fields.items()}:
            detail = f"{key} is a key of {file}."
            return usage_error("no key of a domain spec", detail, f"`reconciler schema {kind}` describes it")
    hint = near_miss(key, every_key()) or "`reconciler schema domain` has all keys; others of xl.cfg(5) go under [xl]"
    return usage_error("no such key", f'There is no key "{key}" in a domain spec.', hint)
