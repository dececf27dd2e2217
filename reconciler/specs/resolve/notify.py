"""Builds the receivers of `[[notify]]`, and checks what its keys have to say of each other. Called by `tree`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model.fleet import Receiver
from reconciler.specs.schema import NotifySpec
from reconciler.specs.schema_errors import Complaint


def check_receivers(specs: Iterable[NotifySpec]) -> Iterator[Complaint]:
    for index, spec in enumerate(specs):
        loc = ("notify", index)
        if spec.url is None and spec.url_file is None:
            detail = f"notify[{index}] needs url, or url_file where the URL is secret."
            yield Complaint(loc=(*loc, "url"), summary="Missing key", detail=detail, at_key=True)
        if spec.url is not None and spec.url_file is not None:
            detail = f"notify[{index}] has both url and url_file, which exclude each other."
            yield Complaint(loc=(*loc, "url_file"), summary="Keys exclude each other", detail=detail, at_key=True)
        if spec.secret_file is not None and spec.token_file is not None:
            detail = f"notify[{index}] has both secret_file and token_file, which exclude each other."
            yield Complaint(loc=(*loc, "token_file"), summary="Keys exclude each other", detail=detail, at_key=True)
        if spec.secret_file is not None and spec.format != "json":
            yield Complaint(
                loc=(*loc, "secret_file"),
                summary="Keys do not fit together",
                detail=f'notify[{index}].secret_file signs documents of format "json", not "{spec.format}".',
                hint=f'Write token_file for format = "{spec.format}".',
                at_key=True,
            )


def build_receivers(specs: Iterable[NotifySpec]) -> tuple[Receiver, ...]:
    return tuple(
        Receiver(
            url=spec.url,
            url_file=spec.url_file,
            events=tuple(dict.fromkeys(spec.events)),
            format=spec.format,
            secret_file=spec.secret_file,
            token_file=spec.token_file,
        )
        for spec in specs
    )
