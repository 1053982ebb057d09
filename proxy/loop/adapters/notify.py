"""Webhooks: what happened, posted as JSON to every configured URL. Failures are retried and never delay the loop.

One queue and one task per URL, so that a dead receiver delays nobody else. The queue is bounded; when a receiver
is away for long, its oldest events go first, and the next delivery says how many.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp

from proxy.loop.adapters.session import open_session
from proxy.loop.adapters.webhook import why_no_answer
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["NoNotifier", "WebhookNotifier"]

_QUEUE: Final = 1000
_RETRY_S: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
_log = logging.getLogger(__name__)


class NoNotifier:
    """Nobody is told."""

    def notify(self, event: Mapping[str, Any]) -> None:
        """Nothing."""


class _Receiver:
    """One URL's queue."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: deque[Mapping[str, Any]] = deque()
        self.missed = 0
        self.filled = asyncio.Event()

    def put(self, event: Mapping[str, Any]) -> None:
        if len(self.events) >= _QUEUE:
            self.events.popleft()
            self.missed += 1
        self.events.append(event)
        self.filled.set()


class WebhookNotifier:
    """Posts events. `start` and `close` belong to the controller."""

    def __init__(self, urls: Sequence[str], *, timeout_s: float, retry_s: Sequence[float] = _RETRY_S) -> None:
        self._receivers = [_Receiver(url) for url in urls]
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._retry_s = retry_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver; needs a running event loop."""
        self._tasks = [
            spawn(self._deliver(receiver), name=f"notify receiver {number}")  # no URL: a secret may stand in it
            for number, receiver in enumerate(self._receivers, start=1)
        ]

    async def close(self) -> None:
        """Stop; what was not delivered is lost (the journal has it)."""
        await cancel_and_wait(self._tasks)
        self._tasks = []

    def notify(self, event: Mapping[str, Any]) -> None:
        """Queue one event for every URL."""
        for receiver in self._receivers:
            receiver.put(event)

    async def _deliver(self, receiver: _Receiver) -> None:
        async with open_session(self._timeout) as session:
            while True:
                while not receiver.events:
                    receiver.filled.clear()
                    await receiver.filled.wait()
                event = {**receiver.events[0], "missed": receiver.missed}
                if await self._post_with_retries(session, receiver, event):
                    receiver.missed = 0
                else:
                    receiver.missed += 1
                receiver.events.popleft()

    async def _post_with_retries(
        self, session: aiohttp.ClientSession, receiver: _Receiver, event: Mapping[str, Any]
    ) -> bool:
        for wait_s in (*self._retry_s, None):
            refused = await self._post(session, receiver.url, event)
            if refused is None:
                return True
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        _log.warning("notification %s was not delivered: %s", event.get("event"), refused)
        return False

    async def _post(self, session: aiohttp.ClientSession, url: str, event: Mapping[str, Any]) -> str | None:
        """Why it was not taken; None where it was."""
        try:
            async with session.post(url, json=event) as response:
                return None if response.status < 300 else f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            return why_no_answer(exc)
