"""Stages kernels and ramdisks: domains boot only from files that were copied, verified and named by their content.

Called by `execute` for StageImage and SweepImages.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import Iterator
from pathlib import Path

from reconciler.copying import Copied, Report, telling
from reconciler.dom0.shell import Dom0Shell
from reconciler.model.diagnostics import Diagnostic, Kind, ReconcilerError, world_error
from reconciler.model.domain import Image, address_of
from reconciler.plan.steps import StageImage, SweepImages

_CHUNK_BYTES = 256 * 1024
_STAGE_SECONDS = 900  # a large ramdisk over a slow line

# Verifies what was written under a temporary name and gives it its own. A name from a cut-short run is removed with its
# file, so that a command still running from it has nothing left to rename.
_FINISH = """
finish() {
    found=$(sha256_of "$unfinished")
    [ "$found" = "$sha256" ] || fail "$source holds other bytes ($found) than were planned ($sha256)." \\
        "Plan again; a file may have changed or a transfer may have been cut short."
    chmod 0644 "$unfinished"
    persist "$unfinished"
    mv -f -- "$unfinished" "$target"
    persist "$folder"
    [ -f "$target" ] || fail "$target is not there after it was staged."
}
"""

# What can be done on the host alone: prints "done", or "send" when the bytes have to come from the controller.
_STAGE_THERE = (
    _FINISH
    + """
if [ -f "$target" ] && [ "$(sha256_of "$target")" = "$sha256" ]; then echo done; exit; fi
mkdir -p -- "$folder"
rm -f -- "$folder/.$name".reconciler-*
trap 'rm -f -- "$unfinished"' EXIT
short=$(printf %.12s "$sha256")
for twin in "$kernel_dir"/*/*."$short"; do # the same bytes, staged for another domain
    if [ -f "$twin" ] && [ "$twin" != "$target" ] && [ "$(sha256_of "$twin")" = "$sha256" ]; then
        ln -- "$twin" "$unfinished" 2>/dev/null || continue
        finish
        echo done
        exit
    fi
done
case $source in
/*)
    [ -f "$source" ] || fail "The image $source is not there any more."
    cp -- "$source" "$unfinished"
    finish
    echo done ;;
*) echo send ;;
esac
"""
)

_STAGE_SENT = (
    _FINISH
    + """
trap 'rm -f -- "$unfinished"' EXIT
cat >"$unfinished"
finish
"""
)

# An image stays when it is to be kept, when a domain runs from it, or when a config file names it: any other domain's,
# and this domain's own unless nothing at all is to be kept, which is said of a domain that is being destroyed.
_SWEEP = """
[ -d "$folder" ] || exit 0
long=$(what_runs)
named=$(
    printf '%s\\n' "$long"
    for config in "$config_dir"/* "$kernel_dir"/*/*.cfg; do
        case $config in
        ("$own_config" | "$folder"/*) [ "$keep" ] || continue ;; # within $( ) some shells need both parentheses
        esac
        [ -f "$config" ] && cat -- "$config" 2>/dev/null || :
    done
)
for image in "$folder"/*.???????????? "$folder"/.*.reconciler-*; do
    [ -f "$image" ] || continue
    case $nl$keep$nl in *"$nl$image$nl"*) continue ;; esac
    case $named in *"$image"*) continue ;; esac
    rm -f -- "$image"
done
rmdir -- "$folder" 2>/dev/null || :
"""


async def stage(
    shell: Dom0Shell, step: StageImage, spec_root: Path, token: str, report: Report = lambda _: None
) -> None:
    """Bring an image to `Image.path`, from a file on the host where it has one, else from the spec tree."""
    image = step.image
    folder, name = posixpath.split(image.path)
    if folder != f"{shell.dom0.kernel_dir}/{step.domain}" or not name.endswith(f".{image.short}"):
        raise AssertionError(f"{image.path} is no place for an image of {step.domain}")
    given = {
        "source": image.source,
        "target": image.path,
        "sha256": image.sha256,
        "folder": folder,
        "name": name,
        "kernel_dir": shell.dom0.kernel_dir,
        "unfinished": f"{folder}/.{name}.reconciler-{token}",
    }
    answer = await shell.act(step.domain, "staging failed", _STAGE_THERE, given, timeout_seconds=_STAGE_SECONDS)
    if answer.strip() == "send":
        file = await asyncio.to_thread(_tree_file, shell.host, step.domain, image, spec_root)
        sent = _Sent(file)
        sending = shell.act(
            step.domain, "staging failed", _STAGE_SENT, given, input=sent.chunks(), timeout_seconds=_STAGE_SECONDS
        )
        await telling(sending, sent.copied, report)


async def sweep(shell: Dom0Shell, step: SweepImages) -> None:
    """Remove the staged images of a domain that no definition names any more."""
    dom0 = shell.dom0
    given = {
        "folder": f"{dom0.kernel_dir}/{step.domain}",
        "keep": "\n".join(step.keep),
        "own_config": dom0.config_path(step.domain),
        "config_dir": dom0.config_dir,
        "kernel_dir": dom0.kernel_dir,
    }
    await shell.act(step.domain, "sweeping images failed", _SWEEP, given)


def _tree_file(host: str, domain: str, image: Image, spec_root: Path) -> Path:
    """Return the image's file in the spec tree. Raises unless it still holds the bytes that were planned."""
    address = address_of(host, domain)
    try:
        file = (spec_root / image.source).resolve(strict=True)
        if not file.is_relative_to(spec_root.resolve()):
            raise world_error("staging failed", f"{image.source} leads out of the spec tree.", None, address)
        digest = hashlib.sha256()
        for chunk in _chunks(file):
            digest.update(chunk)
    except OSError as error:
        raise world_error(
            "staging failed", f"{image.source} cannot be read: {error.strerror}.", None, address
        ) from None
    if digest.hexdigest() != image.sha256:
        raise ReconcilerError(
            Diagnostic(
                kind=Kind.REFUSED,
                summary="image changed since the plan",
                detail=f"{image.source} holds other bytes than were planned ({digest.hexdigest()[:12]}, "
                f"planned {image.short}).",
                hint="Plan again.",
                address=address,
            )
        )
    return file


class _Sent:
    """The bytes of a file, counted as they are fetched to be sent."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0

    def chunks(self) -> Iterator[bytes]:
        for chunk in _chunks(self._file):
            yield chunk
            self._count += len(chunk)

    async def copied(self) -> Copied:
        return Copied(self._count, self._file.stat().st_size)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
