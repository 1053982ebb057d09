"""A worker asks the controller whether an alias is several people's, so that a vote by it is refused at once.

Workers have no database, and must not wait for one: the controller answers on a Unix socket of the data directory, a
line of JSON for a line of JSON. Where it does not, in time or at all, the vote is taken, and ingest leaves it for
nobody (`proxy.store.ingest.namesakes`). Only holders of the feedback token come by here.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from proxy.app.sockets import listen_unix, short_path
from proxy.errors import PermanentError, TemporaryError

__all__ = ["Ambiguous", "ask_names", "serve_names"]

Ambiguous = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Those of some aliases that several people's records have."""
_PATIENCE_S: Final = 0.25
_ANSWER_S: Final = 1.0
"""Longer than anybody waits: a store that is not there keeps no connection open."""
_LINE: Final = 4 << 20

_log = logging.getLogger(__name__)


@asynccontextmanager
async def serve_names(path: Path, ambiguous: Ambiguous) -> AsyncIterator[None]:
    """Answer workers at `path` while the context is open. Where the disk has no room for it, nobody is answered."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                asked = json.loads(await reader.readline())
                found = await ambiguous([str(alias) for alias in asked])
                writer.write(json.dumps(sorted(found)).encode() + b"\n")
                await writer.drain()
        except (TemporaryError, PermanentError, OSError, ValueError, TypeError) as exc:
            _log.debug("a lookup of ambiguous ids was not answered: %s", exc)
        finally:
            writer.close()

    try:
        listener = listen_unix(short_path(path))
    except OSError as exc:
        _log.error("%s: %s; ambiguous votes will be detected later", path, exc)
        yield
        return
    server = await asyncio.start_unix_server(answer, sock=listener, limit=_LINE)
    try:
        yield
    finally:
        server.close()


def ask_names(path: Path) -> Ambiguous:
    """Asks whoever answers at `path`; nothing is known to be ambiguous where nobody does, in time."""
    near = str(short_path(path))

    async def ask(aliases: Sequence[str]) -> frozenset[str]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = await asyncio.open_unix_connection(near, limit=_LINE)
                try:
                    writer.write(json.dumps(list(aliases)).encode() + b"\n")
                    return frozenset(json.loads(await reader.readline()))
                finally:
                    writer.close()
        except (OSError, ValueError):  # TimeoutError is an OSError
            return frozenset()

    return ask
