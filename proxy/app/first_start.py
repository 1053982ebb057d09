"""What a start writes before its first worker: keys, the route table, and where it listens.

On a disk without room nothing of it can be written, and serving needs none of it: workers follow the configuration and
sign with a ring that the supervisor made up and hands to them. That very ring is written down as soon as there is room,
so that ids which clients were given meanwhile stay good. Until then nothing is recorded, which is counted.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from proxy.app.boot import publish_first_routes
from proxy.app.paths import DataDir
from proxy.app.sharing import first_keys
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.ids import create_ring, new_ring
from proxy.log_throttle import ThrottledLog
from proxy.private import NO_ROOM

__all__ = ["FirstFiles", "until_room"]

_RETRY_S: Final = 1.0
_NOTHING_RECORDED: Final = (
    "the disk is full: serving goes on, but nothing is recorded until there is space; free some",
    "the disk is read-only: serving goes on, but nothing is recorded until it is writable",
)

Made = TypeVar("Made")

_log = logging.getLogger(__name__)


def until_room(make: Callable[[], Made], clock: Clock) -> Made:
    """What `make` returns, once the disk has room for it. Raises OSError where it fails for another reason."""
    said = ThrottledLog(_log, clock)
    while True:
        try:
            return make()
        except OSError as exc:
            if exc.errno not in NO_ROOM:
                raise
            if exc.errno == errno.EROFS:
                raise
            said.error("room", "the disk is full, no directory can be created: waiting for space (%s)", exc)
            time.sleep(_RETRY_S)


class FirstFiles:
    """Written by `write`, which is repeated while `pending`."""

    def __init__(self, config: Config, data: DataDir, clock: Clock, *, announce: Callable[[], None]) -> None:
        """`announce` writes down where the server listens; it may raise OSError."""
        self._config = config
        self._data = data
        self._clock = clock
        self._throttled = ThrottledLog(_log, clock)
        self.spare_keys: Mapping[str, Any] | None = None
        """The ring for the processes of this server while there is no file of it."""
        self._steps: list[Callable[[], object]] = [
            self._keys,
            lambda: publish_first_routes(data.routes, config),
            announce,
        ]
        self._waited = False
        self.due_at: float | None = clock.monotonic()
        """When to write again, on the monotonic clock; None: all is written."""

    def write(self) -> bool:
        """Write what is not written yet; True where nothing is left.

        Raises OSError where a file cannot be written for another reason than room, ValueError where the keys cannot be
        used.
        """
        left: list[Callable[[], object]] = []
        for step in self._steps:
            try:
                step()
            except OSError as exc:
                if exc.errno not in NO_ROOM:
                    raise
                left.append(step)
                self._throttled.error("room", "%s (%s)", _NOTHING_RECORDED[exc.errno == errno.EROFS], exc)
        if self._waited and not left:
            _log.warning("the disk can be written again: the files of this start are now saved")
        self._waited = bool(left)
        self._steps = left
        self.due_at = self._clock.monotonic() + _RETRY_S if left else None
        return not left

    def put_off(self) -> None:
        """Write again in a while."""
        self.due_at = self._clock.monotonic() + _RETRY_S

    def _keys(self) -> None:
        if self.spare_keys is not None:
            create_ring(self._data.keys, self.spare_keys)
            self.spare_keys = None
            return
        try:
            first_keys(self._config, self._data)
        except OSError as exc:
            if exc.errno in NO_ROOM:
                self.spare_keys = new_ring()
            raise
