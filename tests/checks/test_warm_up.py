"""The first thing that a check asks: a few recorded requests, so that loading is over before anything is compared."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.snapshot import CheckView
from proxy.checks.gate import ReplayGate
from proxy.checks.prompts import recorded
from proxy.credentials import Credential, CredentialFile
from proxy.store.tables.values import NewRecord, RecordFlag
from tests.checks.world import BEGAN_US, check_of, clock_there, config_of, opened, settled
from tests.harness.exchanges import exchange
from tests.harness.webserver import serving

OF_STREAMS = "text/event-stream"
JSON = "application/json"
WELL = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Aisle 7."},"finish_reason":"stop"}]}'
ERROR = b'{"error":{"message":"out of memory","type":"server_error"}}'
WORDS = b'data: {"choices":[{"index":0,"delta":{"content":"Aisle 7."},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class FreshModel:
    """Answers its first request when `warm` is set: the last of `answers` again and again, the others once each."""

    def __init__(self, *answers: tuple[int, str, bytes]) -> None:
        self.warm = asyncio.Event()
        self.answers = list(answers or ((200, JSON, WELL),))
        self.headers: dict[str, str] = {}
        """Of every answer."""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        asks = [Route(path, self.answer, methods=["POST"]) for path in ("/v1/chat/completions", "/v1/responses")]
        self.app = Starlette(routes=[*asks, Route("/health", lambda _: Response())])

    async def answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        await self.warm.wait()
        status, media_type, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Response(body, status, self.headers, media_type)


Ask = Callable[[], Awaitable[CheckView]]


@asynccontextmanager
async def warming(
    folder: Path, model: FreshModel, records: Sequence[NewRecord], *, key: str | None = "sk-1"
) -> AsyncIterator[tuple[ReplayGate, Any]]:
    """A gate that warms `model` up, whose server is the champion's too, with `records` in a real store, and no more."""
    async with serving(model.app) as url, opened(folder, list(records)) as store:
        config = config_of(folder, champion={"url": f"{url}/elsewhere", "api_key": key}, checks={"replays": 0})
        credentials = CredentialFile(None, config.champion)
        gate = ReplayGate(store, config, credentials.header, clock_there())
        named = {"model": "tuned", "credential": None if key is None else "champion"}
        try:
            yield gate, await check_of(store, f"{url}/elsewhere", url, **named)
        finally:
            model.warm.set()
            await gate.close()


def history(*changes: dict[str, Any]) -> list[NewRecord]:
    """One exchange for each of `changes`, a second apart, the last one the newest."""
    rng, now_us = random.Random(1), BEGAN_US
    return [exchange(now_us - (len(changes) - n) * 1_000_000, rng, **change) for n, change in enumerate(changes)]


async def test_a_model_is_ready_when_it_has_answered_the_newest_good_requests(tmp_path: Path) -> None:
    model = FreshModel()
    unfit = (
        {"flags": RecordFlag.NO_TRAIN},
        {"flags": RecordFlag.TRUNCATED_REQUEST},
        {"flags": RecordFlag.UNREAD},
        {"status": 500},
    )
    records = history(*[{}] * 4, *unfit)
    async with warming(tmp_path, model, records) as (gate, check):
        while "it is being warmed up with recorded requests" not in (view := await gate.poll(*check)).reasons:
            assert not view.done
        model.warm.set()
        assert (await settled(gate, *check)).answers
    bodies = [record.body for record in reversed(records[1:4])]
    assert [asked["messages"][-1]["content"] for asked in model.asked] == [body.query for body in bodies if body]
    assert {asked["model"] for asked in model.asked} == {"tuned"}
    assert set(model.keys) == {"Bearer sk-1"}


async def test_a_warm_up_of_no_requests_looks_for_none(tmp_path: Path) -> None:
    async with opened(tmp_path, history({}, {})) as store:
        assert await recorded(store, 0) == []
        assert len(await recorded(store, 1)) == 1


async def verdict(folder: Path, model: FreshModel, *changes: dict[str, Any], key: str | None = "sk-1") -> CheckView:
    """What becomes of a model that answers at once."""
    model.warm.set()
    async with warming(folder, model, history(*changes), key=key) as (gate, check):
        return await settled(gate, *check)


async def test_a_model_that_answers_nothing_never_gets_a_user(tmp_path: Path) -> None:
    view = await verdict(tmp_path, FreshModel((500, JSON, ERROR)), {}, {})
    assert not view.answers
    assert view.reasons == ("it answered none of 2 recorded requests; the last: HTTP 500",), (
        "what it says stays with it"
    )


NO_ANSWERS = {
    "400": ((400, JSON, ERROR), "HTTP 400"),
    "404, in words": ((404, "text/plain", b"no such model"), "HTTP 404"),
    "408": ((408, JSON, ERROR), "HTTP 408"),
    "422": ((422, JSON, b'{"detail":"no chat template"}'), "HTTP 422"),
    "429": ((429, "text/plain", b""), "HTTP 429"),
    "503": ((503, "text/html", b"<h1>starting</h1>"), "HTTP 503"),
    "an error as the document": ((200, JSON, ERROR), "HTTP 200 with an error inside"),
    "an error as the only event": (
        (200, OF_STREAMS, b"data: " + ERROR + b"\n\ndata: [DONE]\n\n"),
        "HTTP 200 with an error inside",
    ),
    "an error after words": (
        (200, OF_STREAMS, WORDS + b"event: error\ndata: the engine died\n\n"),
        "HTTP 200 with an error inside",
    ),
    "words without an end": ((200, OF_STREAMS, WORDS), "a stream that was cut off"),
    "a stream without events": ((200, OF_STREAMS, b""), "a stream that was cut off"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_what_is_no_answer_to_a_user_is_none_here(name: str, tmp_path: Path) -> None:
    answer, why = NO_ANSWERS[name]
    view = await verdict(tmp_path, FreshModel(answer), {}, {})
    assert not view.answers
    assert view.reasons == (f"it answered none of 2 recorded requests; the last: {why}",)


ANSWERS = {
    "a document": (200, JSON, WELL),
    "a whole stream": (200, OF_STREAMS, WORDS + END),
    "a stream that nobody knows": (200, OF_STREAMS, b'data: {"part":"Aisle 7."}\n\n'),
    "a document that nobody knows": (200, JSON, b'{"part":"Aisle 7."}'),
    "no body": (204, JSON, b""),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_every_answer_will_do(name: str, tmp_path: Path) -> None:
    assert (await verdict(tmp_path, FreshModel(ANSWERS[name]), {})).answers


CODED = {
    "well": ("gzip", gzip.compress(WELL), True),
    "an error": ("gzip", gzip.compress(ERROR), False),
    "not what it says": ("gzip", WELL, True),
    "a coding that nobody knows": ("rot13", WELL, True),
}


@pytest.mark.parametrize("name", CODED)
async def test_an_answer_is_read_through_its_coding(name: str, tmp_path: Path) -> None:
    coding, body, right = CODED[name]
    model = FreshModel((200, JSON, body))
    model.headers = {"content-encoding": coding}
    assert (await verdict(tmp_path, model, {})).answers is right


async def test_one_answer_is_enough(tmp_path: Path) -> None:
    model = FreshModel((404, JSON, ERROR), (200, JSON, WELL), (200, JSON, ERROR))
    assert (await verdict(tmp_path, model, {}, {}, {})).answers
    assert len(model.asked) == 3


@pytest.mark.parametrize("status", [401, 403])
async def test_whoever_has_no_key_is_not_told_whether_the_model_answers(status: int, tmp_path: Path) -> None:
    model = FreshModel((status, JSON, ERROR))
    assert (await verdict(tmp_path, model, {}, key=None)).answers
    assert len(model.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_of_ours_that_is_refused_is_no_answer(status: int, tmp_path: Path) -> None:
    assert not (await verdict(tmp_path, FreshModel((status, JSON, ERROR)), {})).answers


async def test_without_a_history_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    model = FreshModel()
    async with warming(tmp_path, model, []) as (gate, check):
        assert (await settled(gate, *check)).answers
    assert model.asked == []


async def test_a_key_is_used_as_soon_as_it_is_in_the_store(tmp_path: Path) -> None:
    """The file of this host follows some seconds later; a check that has begun by then must not wait for a person."""
    model = FreshModel()
    model.warm.set()
    async with warming(tmp_path, model, history({})) as (gate, (check, challenger, champion)):
        assert challenger.url is not None
        key = Credential.of(challenger.url, "sk-new")
        command = await gate._store.commands.submit("challenge", who="ann", why="new", key=key)
        await settled(gate, check, replace(challenger, credential=command.args["credential"]), champion)
    assert model.keys == ["Bearer sk-new"]
