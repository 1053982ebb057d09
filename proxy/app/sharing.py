"""What replicas of one install have in common beyond the records: the key ring.

With PostgreSQL it is shared through the database, with `server.keys_file` by whoever puts that file on every host. No
replica waits for it: one that cannot reach the database at once when it first starts begins with a ring of its own,
and joins later (`proxy.ids.merge_rings`); one that starts again asks what the others have rotated meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from proxy.app.paths import DataDir
from proxy.app.timekeeping import Timekeeper
from proxy.clock import AdjustedClock
from proxy.config.model import Config
from proxy.errors import TemporaryError
from proxy.ids import KeyRing, merge_rings

if TYPE_CHECKING:
    from proxy.store.store import Store

__all__ = ["first_keys", "is_shared", "share_keys"]

_KEYS: Final = "keys"
_FIRST_S: Final = 0.7
"""Users are waiting. Whoever is slower than that is heard of a moment later, by the controller."""

_log = logging.getLogger(__name__)


def is_shared(config: Config) -> bool:
    """Whether several hosts may use this store."""
    return (config.store.url or "").startswith("postgres")


def first_keys(config: Config, data: DataDir) -> None:
    """Before the first worker starts: make keys where there are none, and learn how far this host's clock is ahead.

    Raises OSError where they cannot be written, ValueError where they cannot be read, or where `server.keys_file` names
    a file that is not there: made up here, it would be another one on every host.
    """
    if data.keys_file is not None and not data.keys_file.exists():
        raise ValueError(f"server.keys_file: {data.keys_file} does not exist; copy keys.json from another host there")
    new = not data.keys.exists()
    ring = KeyRing.load_or_create(data.keys)
    if data.keys_file is not None or not is_shared(config):
        if new and data.routes.exists():
            _log.error("%s was missing, so a new one was created: votes on earlier answers are refused, and all users "
                       "count as new. If you have a backup, restore it and restart", data.keys)  # fmt: skip
        return
    try:
        asyncio.run(_share_first(ring, config, data))
    except (TemporaryError, OSError, ValueError) as exc:
        _log.warning("the database's keys cannot be read yet, this host starts with its own: %s", exc)


async def share_keys(ring: KeyRing, store: Store) -> None:
    """Make the ring of the database and that of this host the same. Raises TemporaryError, OSError, ValueError."""
    mine = ring.document()
    shared = await store.secrets.get(_KEYS)
    if shared == mine:
        return
    if shared is None or merge_rings(mine, shared) != shared:
        shared = await store.secrets.merge(_KEYS, mine, merge_rings)
    if shared != mine:
        ring.adopt(shared, instead_of=mine)
        _log.info("the database's key ring is in use: %d keys", len(ring.key_ids))


async def _share_first(ring: KeyRing, config: Config, data: DataDir) -> None:
    from proxy.store.engine.glance import glance  # here: a supervisor with SQLite never loads a driver

    timekeeper = Timekeeper(data.host_clock, clock := AdjustedClock())
    before = clock.unadjusted()
    seen = await glance(data.store_url(config), _KEYS, within_s=_FIRST_S)
    timekeeper.heard(before, seen.now, clock.unadjusted())
    if seen.secret is not None:
        mine = ring.document()
        ring.adopt(merge_rings(mine, seen.secret), instead_of=mine)
