"""A model is asked as its client asked it; what comes back is an answer, or none, or says nothing of the model."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.draw import Drawn
from policies.rewrite import Rewrite
from policies.scoring import ScoringConfig
from proxy.checks.asking import Asker, Unreached, body_for
from proxy.checks.items import CheckItems
from proxy.checks.ledger import MemoryLedger
from proxy.checks.plan import CheckPlan
from proxy.checks.pool import Away, CheckPool
from proxy.checks.ports import Asked, AskedModel
from proxy.checks.prompts import Recorded
from proxy.checks.reading import Read, read
from proxy.checks.tally import CheckTally
from proxy.clock import SystemClock
from proxy.config.gate import ChecksConfig
from tests.checks.world import completion, unused_port
from tests.harness.webserver import serving

BODY = {"model": "theirs", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.7}
WELL = json.dumps(completion({"content": "Hi."}, "new-1")).encode()
STREAM = (
    b'data: {"model":"new-1","choices":[{"index":0,"delta":{"content":"Hi."},"finish_reason":null}]}\n\n'
    b'data: {"model":"new-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


class Model:
    """Gives these answers, one after the other, the last one again and again."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, dict[str, str]]] = []
        self.app = Starlette(routes=[Route("/base/v1/chat/completions", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        self.asked.append((await request.json(), dict(request.headers)))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def json_of(body: bytes, status: int = 200, **headers: str) -> Response:
    return Response(body, status, headers, "application/json")


@asynccontextmanager
async def asking(timeout_s: float = 20.0) -> AsyncIterator[Asker]:
    async with Asker(SystemClock(), timeout_s=timeout_s, connections=2) as asker:
        yield asker


async def ask(server: Model, /, *, model_name: bool = True, **endpoint: Any) -> Read | Unreached:
    asked = Asked(
        target="/v1/chat/completions", body=json.dumps(BODY).encode(), headers={"content-type": "application/json"}
    )
    async with serving(server.app) as url, asking() as asker:
        return await asker.ask(AskedModel(name="new", url=f"{url}/base/", **endpoint), asked, model_name=model_name)


async def test_only_model_rewrite_and_credential_are_ours() -> None:
    model = Model(json_of(WELL))
    rewrite = Rewrite.of({"system": {"replace": "Be kind."}, "parameters": {"top_p": 0.5}})
    found = await ask(model, model="new-1", headers={"authorization": "Bearer sk"}, rewrite=rewrite)
    assert isinstance(found, Read)
    assert (found.answer.words, found.answer.failed, found.answer.model, found.tokens) == ("Hi.", None, "new-1", 30)
    ((body, headers),) = model.asked
    assert body == {
        **BODY,
        "model": "new-1",
        "top_p": 0.5,
        "messages": [{"role": "system", "content": "Be kind."}, *BODY["messages"]],  # type: ignore[misc]
    }
    assert headers["authorization"] == "Bearer sk"
    assert headers["user-agent"].startswith("ratchet/")


async def test_a_body_that_nothing_changes_goes_as_it_came() -> None:
    model = Model(json_of(WELL))
    await ask(model)
    assert model.asked[0][0] == BODY


async def test_streams_and_packed_answers_are_read() -> None:
    for answer in (
        Response(STREAM, media_type="text/event-stream"),
        json_of(gzip.compress(WELL), **{"content-encoding": "gzip"}),
    ):
        found = await ask(Model(answer), model="new-1")
        assert isinstance(found, Read)
        assert (found.answer.words, found.answer.failed, found.answer.model) == ("Hi.", None, "new-1")
        assert json.loads(found.body)["choices"][0]["message"]["content"] == "Hi."


async def test_a_busy_server_is_asked_again() -> None:
    model = Model(json_of(b"", 429, **{"retry-after": "0"}), json_of(b"", 529), json_of(WELL))
    found = await ask(model)
    assert isinstance(found, Read)
    assert (found.answer.failed, len(model.asked)) == (None, 3)
    always = Model(json_of(b"", 429, **{"retry-after": "0"}))
    found = await ask(always)
    assert isinstance(found, Unreached), "a limit of its server is no fault of the model"
    assert (found.status, len(always.asked)) == (429, 3)
    assert found.reason.endswith("is busy (HTTP 429)")


async def test_a_server_that_takes_no_connection_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose packets are dropped on their way: nothing refuses them, and nobody has been asked."""

    async def never(**_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", never)
    asked = Asked(target="/v1/chat/completions", body=b"{}")
    async with asyncio.timeout(15), asking(timeout_s=1.0) as asker:
        found = await asker.ask(AskedModel(name="new", url="http://127.0.0.1:9"), asked, model_name=False)
    assert found == Unreached("http://127.0.0.1:9 cannot be reached (no connection within 0.5 s)")


@pytest.mark.parametrize("wait", ["nan", "-1", "²"])
async def test_a_wait_that_is_no_number_of_seconds_is_none(wait: str) -> None:
    async with asyncio.timeout(15):
        found = await ask(Model(json_of(b"", 429, **{"retry-after": wait.encode().decode("latin-1")})))
    assert isinstance(found, Unreached)
    assert found.status == 429


def nested(deep: int) -> str:
    return '{"a":' * deep + "1" + "}" * deep


@pytest.mark.parametrize("rewrite", [None, Rewrite.of({"system": {"replace": "Be kind."}})])
def test_what_the_endpoint_does_not_change_keeps_its_bytes(rewrite: Rewrite | None) -> None:
    rest = f'"seed":123456789012345678901234567890,"top_p":0.10,"metadata":{nested(300)}'
    body = f'{{"model":"theirs","messages":[{{"role":"user","content":"Hi"}}],{rest}}}'
    endpoint = AskedModel(name="new", url="http://new", model="new-1", rewrite=rewrite)
    sent = body_for(endpoint, Asked(target="/v1/chat/completions", body=body.encode())).decode()
    assert sent.startswith('{"model":"new-1",')
    assert sent.endswith(f"{rest}}}")
    assert ("Be kind." in sent) == (rewrite is not None)


async def test_a_stream_that_is_nested_too_deep_to_be_written_again_is_kept_as_it_came() -> None:
    stream = STREAM.replace(b'{"model"', f'{{"usage":{nested(300)},"model"'.encode(), 1)
    found = await ask(Model(Response(stream, media_type="text/event-stream")), model="new-1")
    assert isinstance(found, Read)
    assert (found.answer.words, found.answer.failed) == ("Hi.", None)
    assert found.body == stream.decode()


async def test_a_bad_answer_is_asked_for_once() -> None:
    cut = Response(STREAM[:90], media_type="text/event-stream")
    inside = json_of(b'{"error": {"message": "out of memory"}}')
    for answer, why in (
        (json_of(b"", 500), "HTTP 500"),
        (json_of(b"", 302, location="/elsewhere"), "HTTP 302"),
        (inside, "HTTP 200 with an error inside, out of memory"),
        (cut, "a stream that was cut off"),
    ):
        model = Model(answer)
        found = await ask(model)
        assert isinstance(found, Read)
        assert (found.answer.failed, len(model.asked)) == (why, 1)


async def test_a_credential_that_is_missing_says_nothing_of_the_model() -> None:
    found = await ask(Model(json_of(b"", 401)))
    assert isinstance(found, Unreached)
    assert found.refused
    wrong = await ask(Model(json_of(b"", 401)), headers={"authorization": "Bearer old"})
    assert isinstance(wrong, Read)
    assert wrong.answer.failed == "HTTP 401"


async def test_a_server_that_is_not_there_is_unreached() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    async with asking() as asker:
        found = await asker.ask(AskedModel(name="new", url=url), Asked(target="/v1", body=b"{}"), model_name=True)
    assert isinstance(found, Unreached)
    assert f"{url} cannot be reached" in found.reason


async def test_an_answer_that_does_not_come_is_none() -> None:
    forever = asyncio.Event()

    async def silent(request: Request) -> Response:
        await forever.wait()
        return Response()

    app = Starlette(routes=[Route("/v1", silent, methods=["POST"])])
    async with serving(app) as url:
        async with asking(timeout_s=0.2) as asker:
            found = await asker.ask(AskedModel(name="new", url=url), Asked(target="/v1", body=b"{}"), model_name=True)
        forever.set()
    assert isinstance(found, Read)
    assert found.answer.failed == "no answer within 0.2 s"


async def test_a_challenger_that_is_never_reached_has_none_of_the_champions_words() -> None:
    asked = Asked(target="/v1/chat/completions", body=json.dumps(BODY).encode())
    champion = read(asked, status=200, response=WELL, media_type="application/json", latency_s=1.0)
    drawn = (Drawn(0.0, "a"),)

    class Questions:
        async def draw(self) -> tuple[Drawn, ...]:
            return drawn

        async def get(self, record_id: str) -> Recorded | None:
            return Recorded(record_id=record_id, user_hash=None, tags=(), asked=asked, champion=champion)

    plan = CheckPlan(
        challenger=AskedModel(name="new", url=f"http://127.0.0.1:{unused_port()}"),
        champion=None,
        config=ChecksConfig(),
        scoring=ScoringConfig(),
        conversations=Questions(),
        deadline_s=0.0,
        patience_s=0.0,
    )
    ledger = MemoryLedger()
    tally = CheckTally(config=plan.config, by="visible", cases=None, wants_conversations=True, drawn=drawn)
    async with asking() as asker:
        assert await CheckItems(plan, ledger, asker, tally).conversation("a", True) is None
    texts = ledger.kept["a"].data
    assert texts["champion"] == {"text": "Hi.", "body": WELL.decode(), "failed": None}
    assert (texts["challenger"]["text"], texts["challenger"]["body"]) == ("", "")
    assert "cannot be reached" in texts["challenger"]["failed"]
    assert tally.facts["a"]["challenger"]["latency_s"] is None


async def test_an_item_that_fails_again_and_again_is_done_for_good_while_others_are_not() -> None:
    done: list[tuple[str, bool]] = []

    async def do(item: str, last: bool) -> Away | None:
        done.append((item, last))
        return Away("not now") if item == "bad" and not last else None

    pool = CheckPool(SystemClock(), size=1, patience_s=60)
    assert await pool.work(["bad", *"abcdef"], do, over=lambda: False) is None
    assert [last for item, last in done if item == "bad"] == [False, False, True]
    assert pool.waiting == ""


async def test_when_everything_is_away_for_too_long_the_work_ends_with_the_reason() -> None:
    async def do(item: str, last: bool) -> Away | None:
        return Away("the server is away")

    pool = CheckPool(SystemClock(), size=2, patience_s=0)
    assert await pool.work("abcd", do, over=lambda: False) == Away("the server is away")


async def test_what_an_item_raises_ends_the_work_and_the_others() -> None:
    begun: list[str] = []

    async def do(item: str, last: bool) -> Away | None:
        begun.append(item)
        if item == "b":
            raise RuntimeError("the store")
        await asyncio.Event().wait()
        return None

    pool = CheckPool(SystemClock(), size=2, patience_s=0)
    with pytest.raises(RuntimeError, match="the store"):
        await pool.work("abcd", do, over=lambda: False)
    assert begun == ["a", "b"]
