"""Keys of challengers: from the store into a file of this host, for its workers, as long as a model needs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from policies.rows import Model, ModelState
from policies.wording import counted
from proxy.credentials import Credential, read_credentials, write_credentials
from proxy.store.store import Store
from proxy.store.tables.control import CommandRow

__all__ = ["keep_credentials", "not_needed"]

_OVER: Final = (ModelState.REGISTERED, ModelState.RETIRED, ModelState.FAILED)
"""States of models that need no key: one that is only registered is being brought by a command, which still waits, or
was refused."""

_log = logging.getLogger(__name__)


async def keep_credentials(store: Store, path: Path) -> None:
    """Make the file `path` say what the store has, without keys that nobody needs, which the store forgets, too.

    Raises OSError where the file cannot be written, TemporaryError.
    """
    kept = await store.credentials.all()
    if kept:
        waiting = await store.commands.pending()  # first: a command that is settled since then has made its model
        over = not_needed(kept, waiting, await store.models.list())
        if over:
            await store.credentials.forget(over)
            _log.info("%s that no model needs removed", counted(len(over), "API key"))
        kept = {name: found for name, found in kept.items() if name not in over}
    await asyncio.to_thread(_write, path, kept)


def not_needed(kept: Iterable[str], waiting: Iterable[CommandRow], models: Iterable[Model]) -> set[str]:
    """Those names of keys that neither a command that waits nor a model that serves, or is to serve, has."""
    wanted = {command.args.get("credential") for command in waiting}
    wanted |= {model.credential for model in models if model.state not in _OVER}
    return set(kept) - wanted


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
