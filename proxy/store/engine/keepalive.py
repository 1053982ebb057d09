"""Noticing that PostgreSQL is gone, or that we are, when nobody says so: a cable that is out, a host without power.

By default TCP waits a quarter of an hour for an answer, and the server two hours before it asks whether its client
still lives; until then a transaction that was open keeps its locks, and whoever needs them waits.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["SERVER_SETTINGS", "notice_silence"]

_IDLE_S: Final = 5
_INTERVAL_S: Final = 3
_PROBES: Final = 3
_UNANSWERED_MS: Final = 10_000

SERVER_SETTINGS: Final = {
    "tcp_keepalives_idle": str(_IDLE_S),
    "tcp_keepalives_interval": str(_INTERVAL_S),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_UNANSWERED_MS),
}
"""The same for the server's end; without effect on a Unix socket."""


def notice_silence(engine: AsyncEngine) -> None:
    """Every new connection of `engine` is given up after about ten seconds in which the other end is not there."""
    sa.event.listens_for(engine.sync_engine, "connect")(_configure)


def _configure(connection: Any, _record: object) -> None:
    transport = getattr(connection.driver_connection, "_transport", None)
    found = None if transport is None else transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with socket.socket(fileno=os.dup(found.fileno())) as duplicate:  # uvloop's socket sets no options
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", _IDLE_S),
            ("TCP_KEEPINTVL", _INTERVAL_S),
            ("TCP_KEEPCNT", _PROBES),
            ("TCP_USER_TIMEOUT", _UNANSWERED_MS),
        ):
            if hasattr(socket, name):
                duplicate.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
