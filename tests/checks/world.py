"""A store full of conversations that a champion has answered, models that answer well or badly, and a judge.

Everything is real but the words: files, sockets, the judge's endpoint.
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
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from policies.comparison import Answer, AskedQuestion, look_at
from policies.rows import Check, CheckKind, Model
from policies.scoring import ScoringConfig
from policies.snapshot import CheckView
from proxy.checks.gate import ReplayGate
from proxy.clock import SystemClock
from proxy.config import Config, parse_config
from proxy.credentials import CredentialFile
from proxy.store.store import Store
from proxy.store.tables.rows import to_row
from proxy.store.tables.schema import checks
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange, sentences
from tests.harness.tables import sqlite_with_tables

WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
Answers = Callable[[dict[str, Any], random.Random], Response | dict[str, Any]]
"""From the request's body to the assistant's message, or a whole response."""


def well(asked: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """As the champion: some English text; a call where the tool for it is offered."""
    if "tools" in asked:
        call = {"name": "weather", "arguments": json.dumps({"city": rng.choice(("Ulm", "Bonn", "Kiel"))})}
        return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    return {"content": " ".join(rng.sample(_sound(), 3))}


@cache
def _sound() -> list[str]:
    """Sentences of which none looks like a defect to anybody."""
    asked = AskedQuestion(text="Which of the tools do you have, and what is it that they are good for?")
    seen = [(text, look_at(asked, Answer(text=text, words=text), ScoringConfig())) for text in sentences()[::5]]
    return [text for text, found in seen if found.worth == 1.0 and not set(text) & set('<>|{}[]?#"`')]


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


def history(users: int, *, each: int = 2, tools: bool = False, seed: int = 3, **changes: Any) -> list[NewRecord]:
    """What `users` users have asked the champion, which answered each time."""
    rng, now_us = random.Random(seed), int(time.time() * 1e6)
    found = []
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


@asynccontextmanager
async def opened(folder: Path, records: list[NewRecord]) -> AsyncIterator[Store]:
    """A store with these records."""
    store = await Store.open(sqlite_with_tables(folder / "ratchet.db"), clock=SystemClock())
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
                  started_us=int(time.time() * 1e6))  # fmt: skip
    async with store._db.write() as connection:
        await connection.execute(sa.insert(checks).values(to_row(check)))
    return check, challenger, champion


@asynccontextmanager
async def gate_of(store: Store, config: Config) -> AsyncIterator[ReplayGate]:
    """The gate, as the loop has it."""
    gate = ReplayGate(store, config, CredentialFile(None, config.champion).header, SystemClock())
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
