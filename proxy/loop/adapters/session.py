"""How the loop asks over HTTP: every request names us, so that whoever reads a model server's log knows who asked."""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from proxy.version import __version__

__all__ = ["AGENT", "open_session"]

AGENT: Final = f"ratchet/{__version__}"


def open_session(timeout: aiohttp.ClientTimeout, tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A client for a few requests; the caller closes it. `tls`: whom it trusts; None: the system's authorities."""
    connector = None if tls is None else aiohttp.TCPConnector(ssl=tls)
    return aiohttp.ClientSession(timeout=timeout, connector=connector, headers={"User-Agent": AGENT})
