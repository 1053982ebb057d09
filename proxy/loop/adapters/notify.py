"""Notifications: what happened, posted to every configured URL in the form that it takes. Failures are retried and
never delay the loop.

One queue and one task per URL, so that a dead receiver delays nobody else. The queue is bounded; when a receiver
is away for long, its oldest events go first, and the next delivery says how many. What is wrong with the request itself
(400, 404, …) is not sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from proxy.loop.adapters.messages import NotifyTarget, body_for
from proxy.loop.adapters.session import open_session
from proxy.loop.adapters.webhook import why_no_answer
from proxy.printable import printable
from proxy.tasks import cancel_and_wait, spawn
from proxy.wire.retry_after import retry_after_s

__all__ = ["NoNotifier", "Posted", "WebhookNotifier", "post"]

_QUEUE: Final = 1000
_RETRY_S: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
_LONGEST_WAIT_S: Final = 3600.0
_AGAIN: Final = frozenset((408, 425, 429))
_EXCERPT: Final = 200
_log = logging.getLogger(__name__)


class NoNotifier:
    """Nobody is told."""

    def notify(self, event: Mapping[str, Any]) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What a receiver said."""

    status: int | None
    """None: it did not answer."""
    said: str
    """The beginning of its answer, else why there is none; never its URL, in which a key stands."""
    retry_after_s: float | None = None

    @property
    def taken(self) -> bool:
        """2xx."""
        return self.status is not None and self.status < 300

    @property
    def again(self) -> bool:
        """Whether the same may be taken later."""
        return not self.taken and (self.status is None or self.status >= 500 or self.status in _AGAIN)

    def __str__(self) -> str:
        """For a line of a log, or a terminal."""
        return self.said if self.status is None else f"HTTP {self.status} {self.said}".rstrip()


async def post(session: aiohttp.ClientSession, target: NotifyTarget, event: Mapping[str, Any]) -> Posted:
    """Send one event. Raises nothing for what the receiver does."""
    try:
        async with session.post(target.url, json=body_for(target, event)) as response:
            answer = await response.content.read(_EXCERPT)
            asked_s = retry_after_s(response.headers)
    except (aiohttp.InvalidURL, aiohttp.ClientResponseError, ValueError) as exc:
        return Posted(status=None, said=type(exc).__name__)  # its text is the URL
    except (aiohttp.ClientError, TimeoutError) as exc:
        return Posted(status=None, said=why_no_answer(exc))
    said = " ".join(printable(answer.decode("utf-8", "replace")).split())
    return Posted(status=response.status, said=said, retry_after_s=asked_s)


class _Receiver:
    """One target's queue."""

    def __init__(self, target: NotifyTarget) -> None:
        self.target = target
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

    def __init__(
        self, targets: Sequence[NotifyTarget], *, timeout_s: float, retry_s: Sequence[float] = _RETRY_S
    ) -> None:
        self._receivers = [_Receiver(target) for target in targets]
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
            posted = await post(session, receiver.target, event)
            if posted.taken:
                return True
            if wait_s is None or not posted.again:
                break
            asked_s = posted.retry_after_s
            await asyncio.sleep(wait_s if asked_s is None else min(asked_s, _LONGEST_WAIT_S))
        _log.warning("notification %s was not delivered to %s: %s", event.get("event"), receiver.target.name, posted)
        return False
