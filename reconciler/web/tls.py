"""The certificate of `--tls-cert` and `--tls-key`. Called by `server`, at start and on SIGHUP."""

from __future__ import annotations

import ssl
from pathlib import Path

from reconciler.model.diagnostics import ReconcilerError, world_error
from reconciler.records import dataclass
from reconciler.show.escape import plain


@dataclass(frozen=True, slots=True)
class Tls:
    """Two PEM files: the certificate, with the chain behind it, and its key."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Read both. Raises `ReconcilerError` when they cannot be read, or do not belong together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.renew(context)
        return context

    def renew(self, context: ssl.SSLContext) -> None:
        """Have a context use the files as they are now, for connections that come. Raises as `context` does."""
        for path in (self.certificate, self.key):
            try:
                path.read_bytes()
            except OSError as error:
                raise _unusable(path, f"cannot be read: {error.strerror or error}") from None
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except _EncryptedError:
            raise _unusable(self.key, "is a key with a password, and nobody is there to be asked for it") from None
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None)
            if reason == "KEY_VALUES_MISMATCH":
                raise _unusable(self.key, f"is not the key of {plain(str(self.certificate))}") from None
            raise _unusable(
                self.certificate, f"and {plain(str(self.key))} are not a certificate and a key in PEM form"
            ) from None


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    raise _EncryptedError


def _unusable(path: Path, problem: str) -> ReconcilerError:
    return world_error(
        "no certificate to serve with",
        f"{plain(str(path))} {problem}.",
        "name the PEM files of a certificate (with its chain) and of its key with --tls-cert and --tls-key",
    )
