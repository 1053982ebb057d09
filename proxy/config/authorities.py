"""Whose certificates are trusted where we call a server: the system's authorities, and those of `champion.ca_file`."""

from __future__ import annotations

import ssl
from pathlib import Path

from proxy.errors import ConfigError

__all__ = ["trusting"]


def trusting(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS for calling servers that also trusts the authorities in `ca_file` (PEM); None without one: the system's are
    enough. Blocks: it reads files. Raises ConfigError."""
    if ca_file is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(Path(ca_file).expanduser())
    except OSError as exc:  # ssl.SSLError is one
        why = "it holds no certificate in PEM form" if isinstance(exc, ssl.SSLError) else exc.strerror or str(exc)
        raise ConfigError(
            f"champion.ca_file: {ca_file} cannot be used ({why}); give a PEM file with the certificate of the authority "
            "(-----BEGIN CERTIFICATE-----), readable by this user"
        ) from exc
    return context
