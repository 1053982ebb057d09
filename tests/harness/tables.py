"""Databases with the tables of the present schema, copied from one that was made once: making them takes longer than
most tests do. That they come out right from nothing, and from every earlier version, `test_migrations.py` proves.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from functools import cache
from pathlib import Path

from proxy.clock import ManualClock
from proxy.store.store import Store

__all__ = ["make_tables", "sqlite_with_tables"]


def sqlite_with_tables(path: Path) -> str:
    """Url of the SQLite database at `path`; where there is none yet, one without a row in it is put there."""
    if not path.exists():
        path.write_bytes(_empty_sqlite())
    return f"sqlite:///{path}"


def make_tables(url: str) -> None:
    """Bring the database at `url` up to the present schema. May be called beside a running event loop."""

    async def open_and_close() -> None:
        await (await Store.open(url, clock=ManualClock())).close()

    thread = threading.Thread(target=asyncio.run, args=(open_and_close(),))
    thread.start()
    thread.join()


@cache
def _empty_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        make_tables(f"sqlite:///{path}")
        return path.read_bytes()
