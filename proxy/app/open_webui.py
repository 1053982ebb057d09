"""The link to Open WebUI as a part of the controller: it looks every minute, sooner when its bell rings, and only while
this controller leads, so that of several replicas one asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from proxy.app.troubles import Troubles
from proxy.clock import Clock
from proxy.config.authorities import trusting
from proxy.config.model import Config
from proxy.errors import ConfigError
from proxy.ingest import IngestMetrics
from proxy.metrics.traffic import TrafficMetrics
from proxy.store.store import Store
from proxy.store.tables.values import Applied
from proxy.web.open_webui.api import OpenWebUI, OpenWebUIError
from proxy.web.open_webui.poller import OpenWebUIPoller

__all__ = ["OpenWebUILink"]

_MORE_S: Final = 1.0
"""Between two looks while there is more to fetch."""
_LEAST_S: Final = 2.0
"""Between two looks however the bell rings."""
_BELL_S: Final = 0.5
_LONGEST_WAIT_S: Final = 600.0


class OpenWebUILink:
    """Fetches the votes of the Open WebUI that the settings name."""

    def __init__(
        self,
        config: Config,
        bell: Path,
        clock: Clock,
        troubles: Troubles,
        traffic: TrafficMetrics,
        metrics: IngestMetrics,
        *,
        leading: Callable[[], bool],
    ) -> None:
        """`bell` is the file that a worker touches; `leading` says whether this controller decides for all replicas."""
        self._config = config
        self._settings = config.feedback.open_webui
        self._bell = bell
        self._clock = clock
        self._troubles = troubles
        self._traffic = traffic
        self._metrics = metrics
        self._leading = leading
        self._rung = 0

    async def run(self, store: Store) -> None:
        """Look, for ever; returns at once where no Open WebUI is configured. Raises TemporaryError while the store is
        away."""
        settings = self._settings
        if settings.url is None or settings.key is None:
            return
        async with AsyncExitStack() as stack:
            tls = trusting(self._config.champion.ca_file)
            ui = await stack.enter_async_context(OpenWebUI(settings.url, settings.key, tls))
            poller = OpenWebUIPoller(
                ui,
                settings.url.rstrip("/"),
                store,
                self._clock,
                max_age_days=self._config.feedback.max_age_days,
                redact=_cleaning(self._config, stack),
                counted=self._counted,
            )
            self._rung = self._last_rung()
            wait_s = 0.0
            while True:
                await self._wait(wait_s)
                wait_s = await self._look(poller, wait_s) if self._leading() else self._followed()

    async def _look(self, poller: OpenWebUIPoller, waited_s: float) -> float:
        """How long to wait for the next look."""
        every_s = self._settings.poll_seconds
        try:
            more = await poller.look()
        except (OpenWebUIError, TimeoutError) as exc:
            self._troubles.report("open_webui", f"{exc}; votes stay there until it answers")
            return min(_LONGEST_WAIT_S, max(every_s, 2 * waited_s))
        if poller.remark:
            self._troubles.report("open_webui", poller.remark)
        else:
            self._troubles.over("open_webui", "votes are fetched again")
        return _MORE_S if more else every_s

    def _followed(self) -> float:
        """Another controller looks, and says what it finds."""
        self._troubles.over("open_webui", "another controller fetches the votes")
        return _LEAST_S

    async def _wait(self, seconds: float) -> None:
        """So long, or until the bell rings."""
        began = self._clock.monotonic()
        while (left_s := seconds - (self._clock.monotonic() - began)) > 0:
            await asyncio.sleep(min(_BELL_S, left_s))
            rung = self._last_rung()
            if rung != self._rung and self._clock.monotonic() - began >= min(seconds, _LEAST_S):
                self._rung = rung
                return

    def _last_rung(self) -> int:
        try:
            return self._bell.stat().st_mtime_ns
        except OSError:
            return 0

    def _counted(self, applied: Applied) -> None:
        self._traffic.observe_votes(applied.joined)
        self._metrics.votes.value += len(applied.votes)
        self._metrics.parked.value += applied.parked
        self._metrics.ambiguous.value += applied.ambiguous


def _cleaning(config: Config, stack: AsyncExitStack) -> Callable[[Sequence[str]], Awaitable[list[str] | None]] | None:
    """What cleans the words of votes, as in the workers; None where nothing is configured. Imported only then."""
    if not config.capture.redaction.cleans:
        return None
    from proxy.cleaning.cleaner import Cleaner

    try:
        cleaner = Cleaner(config.capture.redaction, lambda name: None, most_decoded=config.capture.max_decoded_bytes)
    except ValueError as exc:
        raise ConfigError(f"capture.redaction: {exc}") from exc
    stack.push_async_callback(cleaner.close, _BELL_S)
    return cleaner.texts
