"""A deleted user is gone everywhere: a real Ratchet, and words that are planted in every place that a user can reach.

Each word is found before the deletion, wherever it is kept, so that the search is known to find. Afterwards every file
of the data directory, every row of the database and the archive are searched, packed or not.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from typer.testing import CliRunner

from proxy.cli.app import app
from proxy.clock import ManualClock, SystemClock
from proxy.config.serving import SpoolConfig
from proxy.ids import KeyRing
from proxy.spool import SpoolWriter
from proxy.store.archive import Archiver, ArchiveStore
from proxy.store.store import Store
from proxy.store.tables.schema import replicas
from proxy.store.tables.values import BodyPayload, IngestBatch
from proxy.version import __version__
from tests.harness.exchanges import exchange, new_id, vote
from tests.harness.frames import exchange_frame
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.require import need
from tests.harness.serve import Answer, RatchetProcess, await_true, request
from tests.harness.traces import traces
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

ENVIRON: Final = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "NO_COLOR": "1"}
CHAT: Final = "/v1/chat/completions"
TOKEN: Final = "only-the-application-knows-this-token"
KEPT: Final = "KEPTword"
"""Said by somebody else in all the same places."""
TRAINER: Final = """
import json
def train(data_path, output_dir, report):
    lines = [json.loads(line) for line in open(data_path)]
    print("the first line is", lines[0])
    report(0.5, "reading " + json.dumps(lines[0]))
    said = [line["messages"][-1]["content"] for line in lines]
    raise ValueError(f"cannot learn from {said}")
"""


def word(name: str) -> str:
    return f"PLANTED{name}Q"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def says(content: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-12345678", "object": "chat.completion", "model": "m", "choices": [choice]}


def events(*contents: str, end: bool = True) -> str:
    deltas = [{"choices": [{"index": 0, "delta": {"content": content}}]} for content in contents]
    ends = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}] if end else []
    lines = [json.dumps({"id": "chatcmpl-s", **event}) for event in [*deltas, *ends]]
    return "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if end else [])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A request of a user and its answer; the strings `{NAME}` in both stand for planted words."""

    body: Any
    answer: Any = None
    path: str = CHAT
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    answer_headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    packed: bool = False


PARAMETERS: Final = {"type": "object", "properties": {"{TOOLPARAM}": {"type": "string", "enum": ["{TOOLENUM}"]}}}
CALLED: Final = {"id": "call_{CALLID}", "type": "function",
                 "function": {"name": "f", "arguments": '{"a": "{CALLARGS}"}'}}  # fmt: skip
SAID: Final = (
    Said(body=chat("tell me {QUESTION} please now"), answer=says("it is {ANSWER} as you know")),
    Said(body={"model": "m", "messages": [{"role": "system", "content": "{SYSTEM}"}, {"role": "developer", "content":
         "{DEVELOPER}"}, {"role": "user", "content": "{EARLIER}"}, {"role": "assistant", "content": "{TURN}"},
         {"role": "user", "content": "and then"}]}, answer=says("then {NEXT} comes next")),
    Said(body={"model": "m", "messages": [{"role": "user", "content": "call"}, {"role": "assistant", "content": None,
         "tool_calls": [CALLED]}, {"role": "tool", "tool_call_id": "call_{CALLID}", "content": "{TOOLRESULT}"}],
         "tools": [{"type": "function", "function": {"name": "{TOOLNAME}", "description": "{TOOLTEXT}",
                                                      "parameters": PARAMETERS}}]},
         answer=says(None, tool_calls=[{"id": "c", "type": "function", "function":
                                        {"name": "f", "arguments": '{"b": "{ANSWERARGS}"}'}}])),
    Said(body=chat([{"type": "text", "text": "look"}, {"type": "image_url", "image_url":
         {"url": "data:image/png;base64,{PICTURE64}"}}, {"type": "file", "file": {"filename": "{FILENAME}"}}]),
         answer=says("a picture of {SEEN}")),
    Said(body=chat("x" * 9000 + " {CUTAWAY}", metadata={"{METANAME}": "{METAVALUE}"}, conversation="{TALK}"),
         answer=says("long")),
    Said(body=chat("hi", stop=["{STOP}"], own_field="{OWNFIELD}", **{"{OWNNAME}": 1}),
         answer=says("hello", reasoning_content="{REASONING}")),
    Said(body=chat("which model") | {"model": "{MODEL}"}, answer=says("this") | {"system_fingerprint": "{PRINT}"}),
    Said(body=chat("stream please"), answer=events("one ", "{STREAMED}", " two"), kind="text/event-stream"),
    Said(body=chat("stream torn"), answer=events("one ", "{TORNA", "TORNB}", " two"), kind="text/event-stream"),
    Said(body=chat("stream cut"), answer=events("one ", "{BROKEN}", end=False), kind="text/event-stream", cut=True),
    Said(body=chat("stream error"), answer='event: error\ndata: {"error": {"message": "{EVENTERROR}"}}\n\n',
         kind="text/event-stream"),
    Said(body=chat("fails {FAILEDASK}"), answer={"error": {"message": "{SERVERERROR}"}}, status=500),
    Said(body=chat("refused {REFUSEDASK}"), answer={"error": {"message": "{REFUSAL}"}}, status=400),
    Said(body="plain {PLAINASK}", answer="plain {PLAINANSWER}", path="/own/{PATH}", kind="text/plain"),
    Said(body=chat("target"), answer=says("target"), path=CHAT + "?q={QUERYVALUE}&{QUERYNAME}=1"),
    Said(body=chat("heads"), answer=says("heads"), headers=(("user-agent", "agent {AGENT}"),
         ("x-request-id", "req-{REQUESTID}")), answer_headers=(("x-request-id", "ans-{ANSWERID}"),)),
    Said(body=chat("packed {PACKEDASK}"), answer=says("packed {PACKEDANSWER}"), packed=True),
    Said(body={"model": "m", "prompt": "{PROMPT}", "suffix": "{SUFFIX}"}, answer={"choices": [{"text": "{TEXT}"}]},
         path="/v1/completions"),
    Said(body={"model": "m", "input": "{EMBEDDED}"}, answer={"data": []}, path="/v1/embeddings"),
    Said(body={"model": "m", "max_tokens": 9, "system": "{ANTHROPIC}", "messages": [{"role": "user", "content":
         [{"type": "tool_result", "tool_use_id": "t", "content": "{ANTHROPICTOOL}"}]}]},
         answer={"type": "message", "content": [{"type": "thinking", "thinking": "{THINKING}"}]}, path="/v1/messages"),
)  # fmt: skip
VOTED: Final = {"comment": "{COMMENT}", "correction": "{CORRECTION}", "source": "{SOURCE}", "tags": {"a": "{TAG}"}}
NAMES: Final = sorted(
    {
        found
        for part in (*map(repr, SAID), repr(VOTED), "{OLDASK}{OLDANSWER}{OLDVOTE}")
        for found in __import__("re").findall(r"\{([A-Z0-9]{3,})\}", part)
    }
    | {"TORNATORNB"}
)
NEVER_KEPT: Final = {"CUTAWAY", "METANAME", "METAVALUE", "TALK"}
"""Behind the capture limit: not kept at all, or as a hash."""


def filled(part: Any, who: str) -> Any:
    """With the words of `who` in it: the victim's, or the other user's."""
    text = json.dumps(part)
    for name in sorted(NAMES, key=len, reverse=True):
        said = word(name) if who == "victim" else f"{KEPT}{name}"
        planted = b64(said) if name == "PICTURE64" else said
        text = text.replace(f"{{{name}}}", planted)
    if who == "victim":
        text = text.replace("{TORNA", word("TORNATORNB")[:10]).replace("TORNB}", word("TORNATORNB")[10:])
    return json.loads(text.replace("{TORNA", "a").replace("TORNB}", "b"))


def sought() -> list[str]:
    return [b64(word(name)) if name == "PICTURE64" else word(name) for name in NAMES]


async def model(asked: Request) -> Response:
    """Answers with what the request's header says."""
    await asked.body()
    said = json.loads(base64.b64decode(asked.headers["x-answer"]))
    body = said["answer"] if isinstance(said["answer"], str) else json.dumps(said["answer"])
    headers = dict(said["headers"])
    if said["cut"]:

        async def broken() -> Any:
            yield body.encode()
            raise ConnectionError("the model is gone")

        return StreamingResponse(broken(), media_type=said["kind"])
    if said["packed"]:
        return Response(gzip.compress(body.encode()), headers=headers | {"content-encoding": "gzip"},
                        media_type=said["kind"])  # fmt: skip
    return Response(body, said["status"], headers, said["kind"])


class House:
    """A running Ratchet on one of the stores, with a model, an archive and a training that fails."""

    def __init__(self, directory: Path, model_url: str, store_url: str | None) -> None:
        self.directory = directory
        (directory / "planted_trainer.py").write_text(TRAINER)
        self.archive = directory / "archive"
        settings: dict[str, Any] = {
            "store": {"ingest_interval_seconds": 0.05, "url": store_url, "archive": {"url": str(self.archive)}},
            "capture": {"max_request_bytes": 8192},
            "feedback": {"token": TOKEN},
            "trigger_config": {"min_usable_samples": 1},
            "generator_config": {"holdout_share": 0.0, "min_quality_score": 0.0},
            "trainer": {"kind": "callable", "callable": "planted_trainer:train", "poll_seconds": 0.1},
            "check_interval_seconds": 0.2,
        }
        if store_url is None:
            del settings["store"]["url"]
        self.ratchet = RatchetProcess(directory, champion=model_url, settings=settings)
        self.url = store_url or f"sqlite:///{self.ratchet.data_dir / 'ratchet.db'}"

    def fill(self) -> None:
        """All that both users leave behind."""
        self.ratchet.await_admin()
        asyncio.run(self.old_days())
        self.live()
        self.command("data", "export", str(self.ratchet.data_dir / "exports" / "mine"))

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """A `ratchet` command, under way."""
        return subprocess.Popen(
            [sys.executable, "-m", "proxy", *args, "--config", str(self.ratchet.config_file)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.directory, env=ENVIRON,
        )  # fmt: skip

    def command(self, *args: str, expect: int = 0) -> str:
        """What a `ratchet` command prints: in this process, for one of its own has everything to import."""
        done = CliRunner().invoke(app, [*args, "--config", str(self.ratchet.config_file)])
        assert done.exit_code == expect, done.output
        return done.output

    async def announced(self) -> bool:
        """Whether a deletion is under way."""
        store = await Store.open(self.url, clock=SystemClock())
        try:
            return bool(await store.forgotten.all())
        finally:
            await store.close()

    async def lose_a_host(self) -> None:
        """Another host was here some minutes ago."""
        store = await Store.open(self.url, clock=SystemClock())
        await store.replicas.seen("away", host="far-away", version=__version__, started_us=1, detail={})
        async with store._db.write() as connection:
            minutes_ago = replicas.c.seen_us - 300_000_000
            await connection.execute(sa.update(replicas).where(replicas.c.id == "away").values(seen_us=minutes_ago))
        await store.close()

    def ask(self, said: Said, who: str) -> Answer:
        plan = filled({"answer": said.answer, "status": said.status, "kind": said.kind,
                       "headers": said.answer_headers, "cut": said.cut, "packed": said.packed}, who)  # fmt: skip
        body = filled(said.body, who)
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = {"content-type": said.kind if isinstance(body, str) else "application/json", "x-user-id": who,
                   "x-answer": b64(json.dumps(plan)), **filled(dict(said.headers), who)}  # fmt: skip
        if said.packed:
            raw, headers = gzip.compress(raw), headers | {"content-encoding": "gzip"}
        path = filled(said.path, who)
        try:
            return request(self.ratchet.base_url, path, method="POST", body=raw, headers=headers)
        except Exception:
            assert said.cut
            raise

    async def old_days(self) -> None:
        """Records of ten days ago, archived."""
        ring = KeyRing.load_or_create(self.ratchet.data_dir / "keys.json")
        now = SystemClock().now()
        store = await Store.open(self.url, clock=ManualClock(now))
        rng, at_us = random.Random(3), int((now - 10 * 86_400) * 1e6)
        records = []
        for n, who in enumerate(("victim", "other") * 5):
            ask, answer = filled(["{OLDASK}", "{OLDANSWER}"], who)
            body = BodyPayload(method="POST", target=CHAT, request=json.dumps(chat(ask)).encode(),
                               response=json.dumps(says(answer)).encode(), query=ask, response_text=answer)  # fmt: skip
            hashed = ring.user_hash(who.encode())
            records.append(exchange(at_us + n * 1_000_000, rng, user_hash=hashed, body=body, kind="chat"))
        votes = tuple(
            vote(record.id, at_us, rng, comment=filled("{OLDVOTE}", who))
            for record, who in zip(records, ("victim", "other") * 5, strict=True)
        )
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records), votes=votes))
        await Archiver(store, ArchiveStore(str(self.archive)), ManualClock(now)).run()
        await store.close()

    def live(self) -> None:
        """Everything that both users say, with votes, and a training that fails on it."""
        ids = []
        for who in ("victim", "other"):
            for said in SAID:
                try:
                    ids.append(self.ask(said, who).headers["x-ratchet-record-id"])
                except (ConnectionError, OSError, EOFError, __import__("http").client.HTTPException):
                    continue
            self.show_picture(who)
            vote_for = {"record_id": ids[-len(SAID) + 1], "feedback": 1, **filled(VOTED, who)}
            sent = request(self.ratchet.base_url, "/-/feedback", method="POST", body=vote_for,
                           headers={"authorization": f"Bearer {TOKEN}"})  # fmt: skip
            assert sent.status == 202, sent.body
        for name in ids:
            await_true(lambda name=name: self.has(name), f"record {name}")
        await_true(lambda: self.counted("other") and self.counted("victim"), "all records")
        self.command("trigger", "--why", "to see it fail")
        await_true(self.failed, "the failed training")

    def show_picture(self, who: str) -> None:
        """A request whose user stands behind a picture of 400 KB, and nowhere else."""
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
        body = json.dumps(chat([{"type": "text", "text": "look"}, picture]) | {"user": who}).encode()
        plan = {"answer": says("seen"), "status": 200, "kind": "application/json", "headers": [], "cut": False,
                "packed": False}  # fmt: skip
        headers = {"content-type": "application/json", "x-answer": b64(json.dumps(plan))}
        assert request(self.ratchet.base_url, CHAT, method="POST", body=body, headers=headers).status == 200

    def failed(self) -> bool:
        return b"TRAINING_FAILED" in request(self.ratchet.admin_url, "/api/history").body.upper()

    def has(self, name: str) -> bool:
        return request(self.ratchet.admin_url, f"/api/records/{name}").status == 200

    def counted(self, who: str) -> bool:
        path = f"/api/records?user={who}&limit=100"
        return len(request(self.ratchet.admin_url, path).json()["records"]) >= len(SAID) + 6

    def traces(self, words: list[str]) -> dict[str, set[str]]:
        return traces(words, self.directory, self.url)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        yield server


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with serving_in_thread(Starlette(routes=[Route("/{path:path}", model, methods=["POST", "GET"])])) as url:
        yield url


def test_fifty_planted_words_are_gone_everywhere(tmp_path: Path, model_url: str) -> None:
    house = House(tmp_path, model_url, None)
    assert len(NAMES) >= 50
    with house.ratchet:
        house.fill()
        before = house.traces(sought())
        missing = {name for name in NAMES if name not in NEVER_KEPT and not before.get(planted(name))}
        assert not missing
        places = {f"{place.partition('/')[0]}:{Path(place).name}" for found in before.values() for place in found}
        assert {"data:train.log", "data:exit.json", "data:data.jsonl", "data:failure.txt"} <= places
        assert {"table bodies:table bodies", "table feedback:table feedback"} <= places
        assert any(place.startswith("archive:") for place in places)
        assert any(place.endswith(".seg") for place in places)

        said = json.loads(house.command("records", "delete", "--user", "victim", "--yes", "--json"))
        assert house.traces(sought()) == {}
        kept = house.traces([f"{KEPT}{name}" for name in ("QUESTION", "OLDASK", "COMMENT")])
        assert {place.partition("/")[0] for found in kept.values() for place in found} >= {"archive", "table bodies"}
        assert any(place.endswith("data.jsonl") for place in kept[f"{KEPT}QUESTION"])
        assert said["complete"]
        found = {place["place"]: place["found"] for place in said["places"]}
        assert found["records"] == 5 + len(SAID) + 1
        assert all(found[name] for name in ("votes", "spool", "training data", "what trainings said"))
        assert found[f"archive {house.archive}"] == 5
        lost = house.ask(SAID[0], "victim")
        await_true(lambda: house.has(lost.headers["x-ratchet-record-id"]), "a user who comes back is a user")
    assert_gone_without_a_server(house)


def assert_gone_without_a_server(house: House) -> None:
    """What a killed worker left in its spool is read first, by the command itself; the user is not let in there."""
    ring = KeyRing(house.ratchet.data_dir / "keys.json")
    body = json.dumps(chat(word("QUESTION"))).encode()
    minted = new_id(int(SystemClock().now() * 1e6), random.Random(5))
    late = exchange_frame(minted, body, b"{}", key=ring.user_hash(b"victim"))
    writer = SpoolWriter(house.ratchet.data_dir / "spool", SpoolConfig())
    writer.append(late)
    writer.close()
    assert any(place.endswith(".seg") for place in house.traces(sought())[word("QUESTION")])
    done = house.command("records", "delete", "--user", "victim", "--yes")
    assert "spool" in done
    assert house.traces(sought()) == {}


def test_a_killed_deletion_is_finished_by_the_next_and_a_host_that_is_away_is_named(
    tmp_path: Path, model_url: str, postgres: PostgresServer
) -> None:
    house = House(tmp_path, model_url, postgres.new_database())
    with house.ratchet:
        house.fill()
        assert len(house.traces(sought())) > 50
        killed = house.begin("records", "delete", "--user", "victim", "--yes")
        await_true(lambda: asyncio.run(house.announced()), "the announcement")
        killed.kill()
        killed.communicate()
        house.command("records", "delete", "--user", "victim", "--yes")
        assert house.traces(sought()) == {}
        assert house.traces([f"{KEPT}QUESTION"])
        asyncio.run(house.lose_a_host())
        done = house.command("records", "delete", "--user", "victim", "--yes", "--json", expect=1)
        (away,) = [place for place in json.loads(done)["places"] if place["failed"]]
        assert (away["host"], "deletes its part when it is back" in away["remains"]) == ("far-away", True)


def planted(name: str) -> str:
    return b64(word(name)) if name == "PICTURE64" else word(name)
