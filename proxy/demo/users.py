"""Simulated customers: sticky, lazy, noisy, and the only part of the demo that is not real.

Each has an id (sent as `x-user-id`), asks through the proxy like any OpenAI-style client, and knows what was
meant. One in ten to three in ten answers gets a thumb, a few thumbs are wrong, and some unhappy voters pick the
right topic from a menu, which arrives as a correction. Where a connection breaks, they ask again, as an SDK does.
What they know about the truth, and what they have received, is kept here as an outside check and never sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import TypeVar

import aiohttp

from proxy.clock import Clock
from proxy.demo.ledger import ClientLedger
from proxy.demo.world import Question, ask, topic_of
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["Customer", "UserTally", "Window", "customers", "keep_asking"]

_T = TypeVar("_T")

WRONG_VOTE_RATE = 0.05
MENU_RATE = 0.35
_PATIENCE_S = 60.0
"""So long it is tried again where the connection breaks, is refused, or the answer is 503."""
_PAUSE_S = 0.2


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


@dataclass(slots=True)
class UserTally:
    """The outside check: truth per second and arm, and what was received, voted on, cut off and failed so far."""

    windows: list[Window] = field(default_factory=list)
    ledger: ClientLedger = field(default_factory=ClientLedger)
    cut_off: int = 0
    """Questions and votes that had to be sent again: the connection broke or was refused, or the answer was 503."""
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
        return self.ledger.answers

    @property
    def votes(self) -> int:
        """Votes so far."""
        return self.ledger.votes

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
    url: str,
    people: list[Customer],
    tally: UserTally,
    *,
    rate: float,
    seed: int,
    clock: Clock,
    started: float,
    at_once: int = 64,
) -> None:
    """Ask `rate` questions a second through the proxy at `url` until cancelled; the outcome goes to `tally`.

    `started` is the instant on `clock` that the tally's times count from. What could not be asked in time, because
    too many wait for an answer, is not made up for later.
    """
    random = Random(seed)
    turns = _turns(people, random)
    began = clock.monotonic()
    open_requests: set[asyncio.Task[None]] = set()
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        try:
            asked = 0
            while True:
                due = int((clock.monotonic() - began) * rate)
                asked = max(asked, due - at_once)
                while len(open_requests) < at_once and asked < due:
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
    session: aiohttp.ClientSession, person: Customer, random: Random, tally: UserTally, clock: Clock, started: float
) -> None:
    question = ask(random)
    try:
        answer = await _until_answered(lambda: _ask(session, person, question), tally, clock)
        right = topic_of(answer.text) == question.topic
        tally.ledger.answered(answer.record_id)
        tally.note(clock.monotonic() - started, answer.arm, right)
        if random.random() >= person.laziness:
            vote = _vote(answer.record_id, person, question.topic, right, random)
            await _until_answered(lambda: _send(session, vote), tally, clock)
            tally.ledger.voted(answer.record_id)
    except (aiohttp.ClientError, TimeoutError):
        tally.failures += 1


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    record_id: str
    arm: str


async def _ask(session: aiohttp.ClientSession, person: Customer, question: Question) -> _Answer:
    body = {"model": "assistant", "messages": [{"role": "user", "content": question.text}]}
    async with session.post("/v1/chat/completions", json=body, headers={"x-user-id": person.name}) as response:
        response.raise_for_status()
        text = (await response.json())["choices"][0]["message"]["content"]
        return _Answer(text, response.headers["x-ratchet-record-id"], response.headers["x-ratchet-arm"])


async def _send(session: aiohttp.ClientSession, vote: dict[str, object]) -> None:
    async with session.post("/-/feedback", json=vote) as response:
        response.raise_for_status()


async def _until_answered(call: Callable[[], Awaitable[_T]], tally: UserTally, clock: Clock) -> _T:
    """Call again while the connection breaks or the answer is "not now" (503), as an SDK does."""
    began = clock.monotonic()
    first = True
    while True:
        try:
            return await call()
        except aiohttp.ClientError as exc:
            if not _passes(exc) or clock.monotonic() - began > _PATIENCE_S:
                raise
            tally.cut_off += first
            first = False
            await asyncio.sleep(_PAUSE_S)


def _passes(error: aiohttp.ClientError) -> bool:
    """Whether it may go well the next time."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status == 503
    return isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError)


def _vote(record_id: str, person: Customer, topic: str, right: bool, random: Random) -> dict[str, object]:
    thumb_up = right != (random.random() < WRONG_VOTE_RATE)
    vote: dict[str, object] = {"record_id": record_id, "feedback": 1 if thumb_up else -1, "source": person.name}
    if not right and not thumb_up and random.random() < MENU_RATE:
        vote["correction"] = topic
    return vote
