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
from reconciler.specs.schema_errors import near_miss
from reconciler.specs.secret_files import SECRET_FILES


class _Key(click.ParamType[str]):
    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = {one.path: one.doc for one in reversed(every_key()) if one.path.startswith(incomplete)}
        return [CompletionItem(path, help=found[path]) for path in reversed(found)]


@click.command(short_help="Tell what a key of a spec means.")
@click.argument("key", type=_Key())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(key: str, as_json: bool) -> None:
    """Tell what KEY of a spec means: its type, unit and default, what a change of it takes, an example, and its name in
    xl.cfg. A key of a table is written with it: disk.size, ready.timeout; allow.pci of host.toml, brake.max_destroy of
    reconciler.toml.
    """
    found = explained(key)
    if not found:
        raise _unknown(key)
    if as_json:
        print_data(as_text({"format": FORMAT, "keys": [_document(one) for one in found]}))
    else:
        print_text("\n".join(_text(one, paint_for(sys.stdout)) for one in found))


def _text(one: Explained, paint: Paint) -> str:
    facts = [(word, fact.replace("`", "").split("\n")) for word, fact in one.facts]
    lines = [paint(one.path, "bold") + (f"  in {one.where}" if one.where else ""), f"  {one.doc}", ""]
    for word, (first, *more) in facts:
        lines += [f"  {word:<10}  {first}", *(f"  {'':<10}  {line}" for line in more)]
    return "\n".join(lines) + "\n"


def _document(one: Explained) -> dict[str, Any]:
    facts = {word.replace(" ", "_").replace(".", "_").replace("-", ""): fact for word, fact in one.facts}
    return {"key": one.path, "table": one.where or None, "meaning": one.doc, **facts}


def _unknown(key: str) -> ReconcilerError:
    name = key.removeprefix("xl.")
    if name in HARMLESS:
        detail = f"{name} is a key of xl.cfg(5) that is passed on as it is; host.toml need not allow it."
        return usage_error("no key of a spec", detail, f"Write it under [xl]: {name} = …")
    if name in SECRET_FILES:
        detail = (
            f"{name} names a file of the host, whose first line becomes {SECRET_FILES[name]} there and nowhere else."
        )
        return usage_error("no key of a spec", detail, f'Write it under [xl], and in host.toml: xl_keys = ["{name}"]')
    if name in REACHES:
        detail = f"{name} is a key of xl.cfg(5) that is passed on as it is, and {REACHES[name]}."
        return usage_error("no key of a spec", detail, f'Write it under [xl], and in host.toml: xl_keys = ["{name}"]')
    hint = (
        near_miss(key, [one.path for one in every_key()])
        or "`reconciler schema domain` has all keys; others of xl.cfg(5) go under [xl]"
    )
    return usage_error("no such key", f'There is no key "{key}" in a spec, host.toml or reconciler.toml.', hint)
