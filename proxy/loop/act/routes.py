"""The route table that follows from where the loop stands, and the file that tells the workers.

Level-triggered: after each tick, and by nothing else, the file is compared with what it should say, and replaced where
it differs; a crash between the commit and the file is mended by the next tick. A status request never writes it: what
it has read may be older than what a tick has published since. `version` only grows: an older table is refused, and the
table of a restored database is written as the newest.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from policies.rows import Model
from policies.state import Promoting, Shadowing, Testing, Watching
from policies.transition import Position
from proxy.clock import Clock
from proxy.log_throttle import ThrottledLog
from proxy.loop.look.position import present_position
from proxy.loop.ports import LoopTroubles
from proxy.routes import RouteTable, Target, read_routes, write_routes
from proxy.store.store import Store

__all__ = ["RoutePublisher", "RoutesFile", "current_version", "publish", "route_table", "same_routes"]

_log = logging.getLogger(__name__)


def route_table(position: Position) -> RouteTable:
    """Where requests go in this position.

    While watching there is no challenger: the experiment and a new epoch stay in the table, so that what the new
    champion does is counted, beside what the old one does for the users that are held back. A paused loop sends no
    copies.
    """
    ledger, experiment, challenger = position.state.ledger, position.experiment, position.challenger
    champion = _target(position.champion)
    table = RouteTable(version=ledger.routes_version, champion=champion, config_id=ledger.config_id)
    if isinstance(position.state.phase, Shadowing) and challenger is not None and position.check is not None:
        if ledger.paused:
            return table
        share, check_id = position.check.terms.get("share", 0.0), position.check.id
        return replace(table, shadow=_target(challenger), shadow_share=share, check_id=check_id)
    if experiment is None:
        return table
    match position.state.phase:
        case Testing() | Promoting() | Watching():
            table = replace(table, experiment_id=experiment.id, epoch=experiment.epoch, salt=experiment.salt)
        case _:
            return table
    phase, previous = position.state.phase, position.previous
    if isinstance(phase, Watching) and previous is not None and phase.holdback_share > 0.0:
        return replace(table, control=_target(previous), control_share=phase.holdback_share)
    return table if challenger is None else replace(table, challenger=_target(challenger), share=experiment.share)


def _target(model: Model) -> Target:
    return Target(
        model_id=model.id,
        name=model.name,
        url=model.url or "",
        model=model.model,
        credential=model.credential,
        rewrite=None if model.rewrite is None else dict(model.rewrite),
    )


def same_routes(one: RouteTable, other: RouteTable) -> bool:
    """Whether both send requests the same way, whatever their versions."""
    return replace(one, version=0) == replace(other, version=0)


def current_version(path: Path | None) -> int:
    """Version of the table in the file; 0 where there is none that can be read."""
    table = _read(path)
    return table.version if table else 0


def publish(path: Path | None, table: RouteTable, *, restored: bool = False) -> RouteTable:
    """Make the file say `table`; returns what it says then. Blocks: it waits for the disk.

    A newer table stays: whoever would put an older one in its place has seen less. `restored`: the database went back,
    and decides all the same; its table is written as the newest. A table of the same version that says other things
    gets the next one.
    """
    if path is None:
        return table
    present = _read(path)
    if present is not None and present.version >= table.version:
        if same_routes(present, table):
            return present
        if present.version > table.version and not restored:
            return present
        table = replace(table, version=present.version + 1)
    write_routes(path, table)
    challenger = f"challenger {table.challenger.name} at {table.share:.3g}" if table.challenger else "no challenger"
    if table.control is not None:
        challenger = f"control {table.control.name} at {table.control_share:.3g}"
    _log.info("routes version %d: champion %s, %s", table.version, table.champion.name, challenger)
    return table


class RoutesFile:
    """The file as one controller sees it, away from the event loop: a disk may take its time.

    It remembers the newest version, so that a file that was removed is no licence to begin again below what workers
    have in force.
    """

    def __init__(self, path: Path | None) -> None:
        """None: there are no workers to tell."""
        self._path = path
        self._newest = 0

    async def version(self) -> int:
        """Of the newest table that is or was in the file."""
        self._newest = max(self._newest, await asyncio.to_thread(current_version, self._path))
        return self._newest

    async def lacks(self, version: int) -> bool:
        """Whether the file is gone, broken, or older than that."""
        return self._path is not None and await asyncio.to_thread(current_version, self._path) < version

    async def publish(self, table: RouteTable, *, restored: bool = False) -> RouteTable:
        """See the function `publish`. Raises OSError."""
        said = await asyncio.to_thread(publish, self._path, table, restored=restored)
        self._newest = max(self._newest, said.version)
        return said


class RoutePublisher:
    """Tells the workers where requests go: keeps the one file as the database says."""

    def __init__(self, store: Store, file: RoutesFile, clock: Clock, troubles: LoopTroubles | None) -> None:
        self._store = store
        self._file = file
        self._troubles = troubles
        self._throttled = ThrottledLog(_log, clock)
        self._published = 0
        """Version of the table that the last tick left behind."""

    async def publish(self, position: Position | None = None) -> None:
        """Make the file say where requests go in `position`, or where the loop stands now.

        It is compared and written after each tick, whether or not that tick did anything, and not with the commit: a
        crash between the two leaves a file that is one version behind, and the next tick mends it. It is read from the
        database anew, for what the tick saw may have been changed by its own commit.

        Raises OSError where the file cannot be written: requests then go on as before.
        """
        table = route_table(position or await present_position(self._store))
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
        table = route_table(await present_position(self._store))
        if table.version >= present.version:
            return await self._file.publish(table)
        self._throttled.warning(
            "restored",
            "routes.json has version %d, the database %d, as after a restore: the database decides",
            present.version,
            table.version,
        )
        return await self._file.publish(table, restored=True)

    def _in_trouble(self, exc: OSError) -> None:
        if self._troubles is not None:
            sentence = f"routes.json cannot be written ({exc.strerror or exc}); requests are routed as before"
            self._troubles.report("routes", sentence, quiet=True)


def _read(path: Path | None) -> RouteTable | None:
    if path is None:
        return None
    try:
        return read_routes(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        _log.warning("routes file cannot be read and will be replaced: %s", exc)
        return None
