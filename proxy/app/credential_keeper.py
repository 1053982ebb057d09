"""Keys of challengers: from the store into a file of this host, for its workers, as long as a model needs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from policies.rows import Model, ModelState
from proxy.clock import Clock
from proxy.credentials import Credential, read_credentials, write_credentials
from proxy.store.control.credentials import KeptCredential
from proxy.store.store import Store

__all__ = ["keep_credentials", "not_needed"]

_OVER: Final = (ModelState.RETIRED, ModelState.FAILED)
_UNCLAIMED_US: Final = 7 * 24 * 3600 * 1_000_000
"""So long a key may wait for the command that it came with to be carried out, where no loop runs."""

_log = logging.getLogger(__name__)


async def keep_credentials(store: Store, path: Path, clock: Clock) -> None:
    """Make the file `path` say what the store has, without keys whose models are gone, which the store forgets, too.

    Raises OSError where the file cannot be written, TemporaryError.
    """
    kept = await store.credentials.all()
    if kept:
        over = not_needed(kept, await store.models.list(), int(clock.now() * 1e6))
        if over:
            await store.credentials.forget(over)
            _log.info("%d API key%s of retired models removed", len(over), "" if len(over) == 1 else "s")
        kept = {name: found for name, found in kept.items() if name not in over}
    await asyncio.to_thread(_write, path, {name: found.credential for name, found in kept.items()})


def not_needed(kept: Mapping[str, KeptCredential], models: Iterable[Model], now_us: int) -> set[str]:
    """Names of keys whose models are all retired or failed, and of those that no model ever had."""
    named: dict[str, bool] = {}
    for model in models:
        if model.credential is not None:
            named[model.credential] = named.get(model.credential, False) or model.state not in _OVER
    return {name for name, found in kept.items() if not named.get(name, now_us - found.created_us < _UNCLAIMED_US)}


def _write(path: Path, wanted: Mapping[str, Credential]) -> None:
    try:
        if read_credentials(path) == wanted:
            return
    except FileNotFoundError:
        if not wanted:
            return
    except ValueError as exc:
        _log.warning("%s", exc)
    write_credentials(path, wanted)
