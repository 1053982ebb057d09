"""A store full of conversations that a champion has answered, models that answer well or badly, and a judge.

Everything is real but the words and the date: files, sockets, the judge's endpoint. Whom a check asks follows from when
it began and from the records' ids, which hold the time. As checks begin at one instant here, they ask the same on every
day: how often the rules err is counted in tests/simulation, and no other test may fail by it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from policies.rows import Check, CheckKind, Model
from policies.snapshot import CheckView
from proxy.checks.gate import ReplayGate
from proxy.clock import AdjustedClock, Clock
from proxy.config import Config, parse_config
from proxy.credentials import CredentialFile
from proxy.store.store import Store
from proxy.store.tables.rows import to_row
from proxy.store.tables.schema import checks
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange
from tests.harness.tables import sqlite_with_tables

WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
BEGAN_US: Final = 1_791_000_000_000_000
"""When the checks begin."""
Answers = Callable[[dict[str, Any], random.Random], Response | dict[str, Any]]
"""From the request's body to the assistant's message, or a whole response."""


def well(asked: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """As the champion: English text without a defect that shows, the same on every machine (a library's words are not);
    a call where the tool for it is offered."""
    if "tools" in asked:
        call = {"name": "weather", "arguments": json.dumps({"city": rng.choice(("Ulm", "Bonn", "Kiel"))})}
        return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    said = zip(*(rng.sample(words, 3) for words in (_WHO, _DOES, _WHAT, _WHEN)), strict=True)
    return {"content": " ".join(f"{' '.join(words)}." for words in said)}


_WHO: Final = (
    "A careful gardener", "The oldest sister", "Our next door neighbour", "Every third student", "My former teacher",
    "The night porter", "A retired sailor", "The new librarian", "Some clever engineer", "The village baker",
)  # fmt: skip
_DOES: Final = ("repairs", "paints", "collects", "measures", "describes", "borrows", "carries", "polishes")
_WHAT: Final = (
    "a wooden ladder", "two brass hinges", "the garden fence", "an empty bottle", "seven paper lanterns",
    "the heavy curtains", "an old bicycle", "some copper wire", "the kitchen table", "a broken umbrella",
)  # fmt: skip
_WHEN: Final = (
    "and then it is done", "when there is nothing else to do", "because it was there", "behind the station",
    "for all of the children", "and nobody has ever asked why", "that they have at home", "in the middle of the night",
)  # fmt: skip


class ScriptedModel:
    """A model behind a socket, which counts what it is asked."""

    def __init__(
        self, answers: Answers = well, *, delay_s: float = 0.0, names: str | None = None, seed: int = 7
    ) -> None:
        self.answers = answers
        self.delay_s = delay_s
        self.names = names
        """The model that it says it is; None: the one that was asked for."""
        self.asked: list[dict[str, Any]] = []
        self.together = self.most_together = 0
        self._seed = seed
        self._heard = asyncio.Condition()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        asked = await request.json()
        async with self._heard:
            self.asked.append(asked)
            self._heard.notify_all()
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.together -= 1
        found = self.answers(asked, random.Random(f"{self._seed}{json.dumps(asked)}"))
        if isinstance(found, Response):
            return found
        return JSONResponse(completion(found, self.names or asked.get("model", "m")))

    async def asked_at_least(self, count: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(120), self._heard:
            await self._heard.wait_for(lambda: len(self.asked) >= count)

    def questions(self) -> list[str]:
        """What it was asked, in order."""
        return [asked["messages"][-1]["content"] for asked in self.asked]


def completion(message: dict[str, Any], model: str) -> dict[str, Any]:
    """A whole answer."""
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def history(
    users: int, *, each: int = 2, tools: bool = False, seed: int = 3, now_us: int = BEGAN_US, **changes: Any
) -> list[NewRecord]:
    """What `users` users have asked the champion, which answered each time, a minute apart until `now_us`."""
    rng, found = random.Random(seed), []
    for at in range(users * each):
        record = exchange(now_us - (users * each - at) * 60_000_000 - 1, rng, user_hash=at % users + 1, **changes)
        found.append(_answered_well(record, rng, tools=tools))
    return found


def _answered_well(record: NewRecord, rng: random.Random, *, tools: bool) -> NewRecord:
    assert record.body is not None
    question = f"Which of these is it, and what is it good for? It has the number {rng.random()}."
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    asked = {**orjson.loads(record.body.request), "messages": messages, **({"tools": [WEATHER]} if tools else {})}
    answer = completion(well(asked, rng), "llama-3.1-8b")
    message = answer["choices"][0]["message"]
    text = message["content"] or f"<tool_call>{json.dumps(message['tool_calls'][0]['function'])}</tool_call>"
    body = replace(record.body, request=orjson.dumps(asked), response=orjson.dumps(answer), response_text=text)
    return replace(record, body=body)


class ScriptedJudge:
    """An OpenAI-style endpoint that scores answers by what stands in them: 0.1 for rubbish, else about 0.7."""

    def __init__(self, *, rubbish: str = "lorem", leans: float = 0.0) -> None:
        self.rubbish = rubbish
        self.leans = leans
        self.asked = 0
        self.down = False
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        self.asked += 1
        if self.down:
            return Response("overloaded", 500)
        shown = (await request.json())["messages"][-1]["content"]
        if "<answer_A " in shown:
            one, other = shown.split("<answer_A ")[1].split("<answer_B ")
            marks = self.rubbish in one, self.rubbish in other
            better = {(True, False): "B", (False, True): "A"}.get(marks, "tie")
            return self._says({"better": better, "reason": "so it seems"})
        answer = shown.split("<answer ")[1].split("\n", 1)[1].rpartition("\n")[0]
        score = 0.1 if self.rubbish in answer else min(1.0, max(0.0, random.Random(answer).gauss(0.7, 0.15)))
        return self._says({"score": score, "reason": "so it seems"})

    def _says(self, verdict: dict[str, Any]) -> Response:
        return JSONResponse(completion({"content": json.dumps(verdict)}, "judge"))


def unused_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def config_of(folder: Path, **tables: Any) -> Config:
    """Settings, each table as keyword."""
    return parse_config({"server": {"data_dir": str(folder)}, "champion": {"url": "http://127.0.0.1:9"}, **tables})


def clock_there() -> AdjustedClock:
    """A clock that goes as the machine's, from when checks begin."""
    clock = AdjustedClock()
    clock.ahead_s = time.time() - BEGAN_US / 1e6
    return clock


@asynccontextmanager
async def opened(folder: Path, records: list[NewRecord]) -> AsyncIterator[Store]:
    """A store with these records."""
    store = await Store.open(sqlite_with_tables(folder / "ratchet.db"), clock=clock_there())
    try:
        for start in range(0, len(records), 200):
            batch = tuple(records[start : start + 200])
            await store.ingest.apply(IngestBatch(records=batch, writer="test", segment=1, offset=start + 1))
        yield store
    finally:
        await store.close()


async def check_of(store: Store, champion_url: str, url: str, **more: Any) -> tuple[Check, Model, Model]:
    """A check that has just begun: with the challenger at `url`, which is called `more["name"]`."""
    champion = await store.models.add("champion", url=champion_url)
    challenger = await store.models.add(**{"name": "new", "url": url, **more})
    check_id = await store.checks.next_id()
    check = Check(id=check_id, kind=CheckKind.GATE, challenger_id=challenger.id, champion_id=champion.id,
                  started_us=BEGAN_US)  # fmt: skip
    async with store._db.write() as connection:
        await connection.execute(sa.insert(checks).values(to_row(check)))
    return check, challenger, champion


@asynccontextmanager
async def gate_of(store: Store, config: Config, clock: Clock | None = None) -> AsyncIterator[ReplayGate]:
    """The gate, as the loop has it; by its clock, checks begin now."""
    gate = ReplayGate(store, config, CredentialFile(None, config.champion).header, clock or clock_there())
    try:
        yield gate
    finally:
        await gate.close()


async def settled(gate: ReplayGate, check: Check, challenger: Model, champion: Model) -> CheckView:
    """What it says in the end."""
    async with asyncio.timeout(300):
        while True:
            view = await gate.poll(check, challenger, champion)
            if view.done or not view.answers:
                return view
