"""Customers in front of several hosts: they ask whoever is up, vote somewhere else, and know what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from proxy.demo.world import ask, topic_of

__all__ = ["Crowd", "crowd_at"]

_AT_ONCE = 64
_PATIENCE_S = 120.0


@dataclass
class Crowd:
    """Asks `rate` questions a second, or as many as it gets answered."""

    urls: Sequence[str]
    users: int
    rate: float
    random: Random = field(default_factory=lambda: Random(1))
    answered: list[str] = field(default_factory=list)
    """Record ids of whole answers."""
    sent: int = 0
    broken: int = 0
    """Attempts that got no answer from the host they were made at."""
    unserved: list[str] = field(default_factory=list)
    """Questions that no host answered, or that got another status than 200."""
    votes: int = 0
    """Votes that were taken."""
    refused: list[str] = field(default_factory=list)
    """Votes that were not, and why."""

    async def keep_asking(self) -> None:
        """Until cancelled."""
        began, asked = time.monotonic(), 0
        turns: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE_S)) as session:
            try:
                while True:
                    while len(turns) < _AT_ONCE and asked < (time.monotonic() - began) * self.rate:
                        asked += 1
                        turn = asyncio.create_task(self._turn(session))
                        turns.add(turn)
                        turn.add_done_callback(turns.discard)
                    if asked < (time.monotonic() - began) * self.rate - _AT_ONCE:
                        began, asked = time.monotonic(), 0  # what could not be asked in time is not asked later
                    await asyncio.sleep(0.01)
            finally:
                await asyncio.gather(*turns)

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        question, user = ask(self.random), f"customer-{self.random.randrange(self.users)}"
        body = {"model": "assistant", "messages": [{"role": "user", "content": question.text}]}
        urls = self.random.sample(self.urls, len(self.urls))
        answer = await self._post(session, urls, "/v1/chat/completions", body, {"x-user-id": user})
        if answer is None or answer[0] != 200:
            self.unserved.append(str(answer and answer[:2]))
            return
        said, record_id = answer[1]["choices"][0]["message"]["content"], answer[2]
        self.answered.append(record_id)
        if self.random.random() < 0.3:
            return
        right = topic_of(said) == question.topic
        vote = {"record_id": record_id, "feedback": 1 if right else -1, "source": user}
        if not right and self.random.random() < 0.35:
            vote["correction"] = question.topic
        taken = await self._post(session, urls[::-1], "/-/feedback", vote, {})
        if taken is not None and taken[0] == 202:
            self.votes += 1
        else:
            self.refused.append(str(taken))

    async def _post(
        self, session: aiohttp.ClientSession, urls: Sequence[str], path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, Any, str] | None:
        """Status, document and record id of the first host that answers, as from behind a load balancer.

        A host that has just started serves before it takes votes, and says so (503): they go to the next one.
        """
        last = None
        for url in urls:
            self.sent += path != "/-/feedback"
            try:
                async with session.post(f"{url}{path}", json=body, headers=headers) as response:
                    record_id = response.headers.get("x-ratchet-record-id", "")
                    last = response.status, await response.json(content_type=None), record_id
                    if response.status != 503 or path != "/-/feedback":
                        return last
            except TimeoutError:
                return 0, f"no answer from {url}{path} within {_PATIENCE_S:g} s", ""
            except (aiohttp.ClientError, ConnectionError):
                self.broken += 1
        return last


@contextlib.asynccontextmanager
async def crowd_at(urls: Sequence[str], *, users: int, rate: float) -> AsyncIterator[Crowd]:
    """A crowd for the length of the block; what was asked is answered before it ends."""
    crowd = Crowd(urls, users, rate)
    asking = asyncio.create_task(crowd.keep_asking())
    try:
        yield crowd
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
