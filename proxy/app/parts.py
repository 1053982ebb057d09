"""The controller's parts: each a task of its own that is started again when it fails. None takes another down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.app.store_keeper import pause
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.log_throttle import ThrottledLog
from proxy.store.engine.refusals import StoreAwayError
from proxy.tasks import spawn

__all__ = ["Parts"]

_LONGEST_RETRY_S: Final = 5.0


class Parts:
    """Keeps them running, and knows of settings with which one cannot."""

    def __init__(self, log: ThrottledLog) -> None:
        self._log = log
        self._unusable: ConfigError | None = None

    def start(self, name: str, part: Callable[[], Awaitable[None]], stop: asyncio.Event) -> asyncio.Task[None]:
        """Run a part until told to stop; one that fails is logged and started again. Settings that a part cannot use
        stop them all."""
        return spawn(self._keep(name, part, stop), name=name)

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await part()
            except (TemporaryError, PermanentError) as exc:
                if not isinstance(exc, StoreAwayError):  # which is said by now, once for everybody who met it
                    self._log.warning(name, "%s waits: %s", name, exc)
                await pause(stop, min(getattr(exc, "retry_after_s", _LONGEST_RETRY_S), _LONGEST_RETRY_S))
            except ConfigError as exc:
                self._unusable = exc
                stop.set()
            except Exception as exc:  # noqa: BLE001 - a part is an edge: whatever it did wrong, the others go on
                self._log.exception((name, type(exc)), "%s failed; restarting it in a second", name)
                await pause(stop, 1.0)

    def raise_unusable(self) -> None:
        """Raise the ConfigError for which all were stopped, if that is why."""
        if self._unusable is not None:
            raise self._unusable
