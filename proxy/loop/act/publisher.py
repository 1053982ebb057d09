"""Tells the workers where requests go: the route table of where the loop stands, once a tick.

A status request never writes: what it has read may be older than what a tick has published since.
"""

from __future__ import annotations

import logging

from policies.transition import Position
from proxy.clock import Clock
from proxy.errors import PermanentError
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.routing import RoutesFile, route_table, same_routes
from proxy.loop.look.position import read_position
from proxy.loop.ports import LoopTroubles
from proxy.routes import RouteTable
from proxy.store.store import Store

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)


class Publisher:
    """Keeps one file as the database says."""

    def __init__(self, store: Store, file: RoutesFile, clock: Clock, troubles: LoopTroubles | None) -> None:
        self._store = store
        self._file = file
        self._troubles = troubles
        self._said = ThrottledLog(_log, clock)
        self._published = 0
        """Version of the table that the last tick left behind."""

    async def position(self) -> Position:
        """Where the loop stands. Raises PermanentError where an installation's state has gone."""
        if (position := await read_position(self._store)) is None:
            raise PermanentError("the loop's state is not in the database any more; was another one put in its place?")
        return position

    async def publish(self, position: Position | None = None) -> None:
        """The table of `position`, or of where the loop stands now. Raises OSError where the file cannot be written:
        requests then go on as before."""
        table = route_table(position or await self.position())
        try:
            said = await self._file.publish(table)
            if said.version > table.version and not same_routes(said, table):
                said = await self._overrule(said)
        except OSError as exc:
            self._in_trouble(exc)
            raise
        self._published = said.version
        if self._troubles is not None:
            self._troubles.over("routes", "routes.json is written again")

    async def lost(self) -> bool:
        """Whether the file is not there any more, or not as the last tick left it: the next one is due at once."""
        return await self._file.lacks(self._published)

    async def _overrule(self, present: RouteTable) -> RouteTable:
        """The file is newer than the database, and says other things. What was read may have been old by now; where a
        second look finds the same, the database went back, and it decides."""
        table = route_table(await self.position())
        if table.version >= present.version:
            return await self._file.publish(table)
        self._said.warning("restored", "routes.json has version %d, the database %d, as after a restore: the database "
                           "decides", present.version, table.version)  # fmt: skip
        return await self._file.publish(table, restored=True)

    def _in_trouble(self, exc: OSError) -> None:
        if self._troubles is not None:
            sentence = f"routes.json cannot be written ({exc.strerror or exc}); requests are routed as before"
            self._troubles.report("routes", sentence, quiet=True)
