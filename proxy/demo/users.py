"""Simulated customers: sticky, lazy, noisy, and the only part of the demo that is not real.

Each has an id (sent as `x-user-id`), asks through the proxy like any OpenAI-style client, and knows what was
meant. One in ten to three in ten answers gets a thumb, a few thumbs are wrong, and some unhappy voters pick the
right topic from a menu, which arrives as a correction. What they know about the truth is kept here as an outside
check and never sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

import aiohttp

from proxy.clock import Clock
from proxy.demo.world import ask, topic_of
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["Customer", "Tally", "Window", "customers", "keep_asking"]

WRONG_VOTE_RATE = 0.05
MENU_RATE = 0.35


@dataclass(frozen=True, slots=True)
class Customer:
    """One user. `laziness` is the share of answers that get no thumb, `activity` a relative rate of asking."""

    name: str
    laziness: float
    activity: float


def customers(count: int, random: Random) -> list[Customer]:
    """`count` users: lognormal activity, votes on 10 to 30 % of the answers."""
    return [
        Customer(f"customer-{number:04}", 1 - random.uniform(0.1, 0.3), random.lognormvariate(0, 0.7))
        for number in range(count)
    ]


@dataclass(slots=True)
class Window:
    """What was really right in one stretch of time, per arm."""

    at_s: float
    """Start of the window, seconds since the customers came."""
    asked: dict[str, int] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)

    def accuracy(self, arm: str) -> float | None:
        """Share of right answers of that arm ("champion", "challenger"), None without answers."""
        return self.right.get(arm, 0) / self.asked[arm] if self.asked.get(arm) else None


@dataclass(slots=True)
class Tally:
    """The outside check: truth per second and arm, votes and failures so far."""

    windows: list[Window] = field(default_factory=list)
    votes: int = 0
    failures: int = 0

    def note(self, at_s: float, arm: str, right: bool) -> None:
        """Count one answer."""
        start = float(int(at_s))
        if not self.windows or self.windows[-1].at_s < start:
            self.windows.append(Window(start))
        window = self.windows[-1]
        window.asked[arm] = window.asked.get(arm, 0) + 1
        window.right[arm] = window.right.get(arm, 0) + right

    @property
    def asked(self) -> int:
        """Answers so far."""
        return sum(sum(window.asked.values()) for window in self.windows)

    def mean(self, arm: str, *, first: bool, seconds: int = 5) -> float:
        """Accuracy of that arm in its first or last seconds of traffic; 0 without any."""
        windows = [window for window in self.windows if arm in window.asked]
        chosen = windows[:seconds] if first else windows[-seconds:]
        asked = sum(window.asked[arm] for window in chosen)
        return sum(window.right.get(arm, 0) for window in chosen) / asked if asked else 0.0

    def recent(self, arm: str, seconds: int = 5) -> float | None:
        """Accuracy of that arm over the last windows, None without answers."""
        last = self.windows[-seconds:]
        asked = sum(window.asked.get(arm, 0) for window in last)
        return sum(window.right.get(arm, 0) for window in last) / asked if asked else None


async def keep_asking(
    url: str, people: list[Customer], tally: Tally, *, rate: float, seed: int, clock: Clock, at_once: int = 64
) -> None:
    """Ask `rate` questions a second through the proxy at `url` until cancelled; the outcome goes to `tally`."""
    random = Random(seed)
    turns = _turns(people, random)
    started = clock.monotonic()
    open_requests: set[asyncio.Task[None]] = set()
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        try:
            asked = 0
            while True:
                while len(open_requests) < at_once and asked < (clock.monotonic() - started) * rate:
                    asked += 1
                    turn = _one_turn(session, next(turns), Random(random.random()), tally, clock, started)
                    task = spawn(turn, name="demo-customer")
                    open_requests.add(task)
                    task.add_done_callback(open_requests.discard)
                await asyncio.sleep(0.01)
        finally:
            await cancel_and_wait(open_requests)


def _turns(people: list[Customer], random: Random) -> Iterator[Customer]:
    cumulative = list(accumulate(person.activity for person in people))
    while True:
        yield from random.choices(people, cum_weights=cumulative, k=256)


async def _one_turn(
    session: aiohttp.ClientSession, person: Customer, random: Random, tally: Tally, clock: Clock, started: float
) -> None:
    question = ask(random)
    body = {"model": "assistant", "messages": [{"role": "user", "content": question.text}]}
    try:
        async with session.post("/v1/chat/completions", json=body, headers={"x-user-id": person.name}) as response:
            response.raise_for_status()
            answer = (await response.json())["choices"][0]["message"]["content"]
            record_id = response.headers["x-ratchet-record-id"]
            arm = response.headers.get("x-ratchet-arm", "champion")
        right = topic_of(answer) == question.topic
        tally.note(clock.monotonic() - started, arm, right)
        if random.random() >= person.laziness:
            await session.post("/-/feedback", json=_vote(record_id, person, question.topic, right, random))
            tally.votes += 1
    except (aiohttp.ClientError, TimeoutError):
        tally.failures += 1


def _vote(record_id: str, person: Customer, topic: str, right: bool, random: Random) -> dict[str, object]:
    thumb_up = right != (random.random() < WRONG_VOTE_RATE)
    vote: dict[str, object] = {"record_id": record_id, "feedback": 1 if thumb_up else -1, "source": person.name}
    if not right and not thumb_up and random.random() < MENU_RATE:
        vote["correction"] = topic
    return vote
