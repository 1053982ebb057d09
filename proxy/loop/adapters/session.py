"""How the loop asks over HTTP: every request names us, so that whoever reads a model server's log knows who asked."""

from __future__ import annotations

from typing import Final

import aiohttp

from proxy.version import __version__

__all__ = ["AGENT", "open_session"]

AGENT: Final = f"ratchet/{__version__}"


def open_session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A client for a few requests; the caller closes it."""
    return aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": AGENT})
