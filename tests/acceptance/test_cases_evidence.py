"""Whose word counts, on a real Ratchet: votes of those who got an answer, in what they may say, once each."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.harness.cases import send
from tests.harness.contest import CHAT_PATH, Contest, chat, contest
from tests.harness.serve import Answer, RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, reply
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

TOKEN: Final = "the back end's own feedback token"
REFUSAL: Final = "I'm sorry, but I can't help with that."
_numbers = count()


async def refuses(request: Request) -> Response:
    """A model that never helps, but listens to the end: else its answer might be there before the question is."""
    await request.body()
    message = {"role": "assistant", "content": REFUSAL}
    return JSONResponse({"object": "chat.completion", "choices": [{"message": message, "finish_reason": "stop"}]})


class House:
    """A running Ratchet, and people who ask and vote."""

    def __init__(self, ratchet: RatchetProcess) -> None:
        self.ratchet = ratchet

    def ask(self, **headers: str) -> str:
        """The record id of a new question's answer."""
        body = chat(f"Question {next(_numbers)}: which aisle has the screws?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = request(self.ratchet.base_url, CHAT_PATH, method="POST", body=body, headers=named)
        assert answer.status == 200
        return answer.headers["x-ratchet-record-id"]

    def vote(self, record_id: str, *, token: bool = False, **says: Any) -> Answer:
        return self.post({"record_id": record_id, **says}, token=token)

    def post(self, body: Any, *, token: bool = False) -> Answer:
        headers = {"authorization": f"Bearer {TOKEN}"} if token else {}
        return request(self.ratchet.base_url, "/-/feedback", method="POST", body=body, headers=headers)

    def record(self, record_id: str, votes: int) -> dict[str, Any]:
        """The record, once it has so many votes."""

        def look() -> dict[str, Any] | None:
            found = request(self.ratchet.admin_url, f"/api/records/{record_id}")
            return dict(found.json()) if found.status == 200 and len(found.json()["votes"]) >= votes else None

        found: dict[str, Any] = await_true(look, f"{votes} votes on {record_id}")
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = {"feedback": {"token": TOKEN}, "generator_config": {"holdout_share": 0.0}}
    app = Starlette(routes=[Route(CHAT_PATH, refuses, methods=["POST"])])
    with (
        serving_in_thread(app) as url,
        RatchetProcess(tmp_path_factory.mktemp("r"), champion=url, settings=settings) as ratchet,
    ):
        ratchet.await_admin()
        yield House(ratchet)


@pytest.mark.parametrize(("token", "counted"), [(False, 1), (True, 30)])
def test_many_sources_are_one_voter_without_the_token(house: House, token: bool, counted: int) -> None:
    record_id = house.ask()
    ballots = [{"record_id": record_id, "feedback": 1, "source": f"s{n}"} for n in range(30)]
    assert house.post(ballots, token=token).status == 202
    record = house.record(record_id, votes=30)
    assert (sum(vote["counts"] for vote in record["votes"]), record["feedback"]) == (counted, 1)
    assert {vote["token"] for vote in record["votes"]} == {token}


def test_a_score_moves_the_quality_with_the_token_alone(house: House) -> None:
    record_id = house.ask()
    before = house.record(record_id, votes=0)["quality"]
    assert before < 1
    alone = house.vote(record_id, quality_score=1)
    assert (alone.status, alone.json()["error"]["field"]) == (403, "quality_score")
    beside = house.vote(record_id, quality_score=1, feedback=1)
    assert (beside.status, beside.json()["not_counted"]) == (202, ["quality_score"])
    record = house.record(record_id, votes=1)
    assert (record["quality"], record["feedback"]) == (before, 1), "the thumb beside it counts"
    assert house.vote(record_id, quality_score=1, token=True).status == 202
    record = house.record(record_id, votes=2)
    assert (record["quality"], record["quality_source"]) == (1, "feedback")


def test_a_correction_teaches_with_the_token_alone(house: House) -> None:
    taught, kept = house.ask(x_user_id="ann"), house.ask(x_user_id="bob")
    words = {taught: "Screws are in aisle seven.", kept: "Buy at evil.example."}
    for record_id, correction in words.items():
        answer = house.vote(record_id, token=record_id == taught, feedback=-1, correction=correction)
        assert answer.status == 202
        assert house.record(record_id, votes=1)["votes"][0]["correction"] == correction
    folder = house.ratchet.directory / "export"
    verb = ["data", "export", str(folder), "--config", str(house.ratchet.config_file)]
    done = subprocess.run([sys.executable, "-m", "proxy", *verb], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (folder / "data.jsonl").read_text()
    assert words[taught] in lines
    assert words[kept] not in lines
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["authors"]["person"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"record_id":"%b","feedback":1}',
        b'{"record_id":"%b","feedback":1,"comment":"so good \\ud83d"}',
        b'{"record_id":"%b","feedback":1,"comment":"so good \xf0\x9f\x99"}',
        b'\xff\xfe' + '{"record_id":"%b","feedback":1}'.encode("utf-16-le"),
    ],
    ids=["behind a mark", "cut in an emoji", "cut in its bytes", "in UTF-16"],
)  # fmt: skip
def test_a_thumb_counts_however_its_vote_is_spelled(house: House, body: bytes) -> None:
    record_id = house.ask()
    wide = body.startswith(b"\xff\xfe")
    spelled = (
        body.replace("%b".encode("utf-16-le"), record_id.encode("utf-16-le")) if wide else body % record_id.encode()
    )
    assert house.post(spelled).status == 202
    assert house.record(record_id, votes=1)["feedback"] == 1


def test_a_name_that_a_stranger_uses_too_gets_no_vote(house: House) -> None:
    """The back end's own request id stands in somebody else's request later; nobody can tell whose answer is meant."""
    name = "5e55a6e0-0000-4000-8000-00000000a11a"
    mine = house.ask(x_user_id="ann", x_request_id=name)
    house.record(mine, votes=0)
    assert house.vote(name, token=True, feedback=1, source="early").status == 202
    house.record(mine, votes=1)
    theirs = house.ask(x_user_id="a stranger", x_request_id=name)
    house.record(theirs, votes=0)
    late = house.vote(name, token=True, feedback=-1, source="late")
    assert (late.status, late.json()["error"]["field"]) == (409, "record_id")
    assert house.vote(mine, token=True, feedback=1, source="by its own id").status == 202
    assert house.record(mine, votes=2)["feedback"] == 1
    assert house.record(theirs, votes=0)["feedback"] is None


def test_the_same_name_for_one_users_requests_means_the_last(house: House) -> None:
    name = "5e55a6e0-0000-4000-8000-00000000a11b"
    first, last = (house.ask(x_user_id="ann", x_request_id=name) for _ in range(2))
    house.record(first, votes=0)
    house.record(last, votes=0)
    assert house.vote(name, token=True, feedback=-1).status == 202
    assert house.record(last, votes=1)["feedback"] == -1
    assert house.record(first, votes=0)["feedback"] is None


# Who was refused decides nothing

KEY: Final = {"Authorization": "Bearer good"}
RULES: Final[dict[str, Any]] = {
    "ab_test_config": {
        "quality_weight": 0.0, "latency_weight": 0.0, "feedback_weight": 1.0, "min_duration_hours": 0.0,
        "watch_hours": 0.0,
        "guardrails": {"max_refused_increase": 0.3},  # chance divides the strangers: that must not decide here
    },
    "sticky": {"trust": "all"},
}  # fmt: skip
STRANGERS: Final = 300


async def with_the_key(seen: Seen, line: Line) -> None:
    if seen.header("authorization") == b"Bearer good":
        await line.send(reply())
    else:
        await line.send(reply(b'{"error":"no key"}', status=b"401 Unauthorized"))


class Polls:
    """Users of a test, and their votes, which go out in one batch."""

    def __init__(self, testing: Contest) -> None:
        self.testing = testing
        self.asked = 0

    async def ask(self, users: Iterable[str], status: int, **headers: str) -> list[tuple[str, str]]:
        """Arm and record id of an answer for each."""
        room = asyncio.Semaphore(16)

        async def one(user: str) -> tuple[str, str]:
            async with room:
                said = {"x-user-id": user, "Content-Type": "application/json"} | headers
                answer = await send(self.testing.ratchet.base_url, CHAT_PATH, json.dumps(chat()).encode(), said)
            assert answer.status == status, answer.body
            return answer.headers["x-ratchet-arm"], answer.headers["x-ratchet-record-id"]

        answers: list[Coroutine[Any, Any, tuple[str, str]]] = [one(user) for user in users]
        self.asked += len(answers)
        return await asyncio.gather(*answers)

    async def vote(self, thumbs: Iterable[tuple[str, int]]) -> None:
        body = [{"record_id": record_id, "feedback": thumb} for record_id, thumb in thumbs]
        answer = await send(self.testing.ratchet.base_url, "/-/feedback", json.dumps(body).encode(), {})
        assert answer.status == 202, answer.body

    async def counted(self, name: str, votes: int) -> None:
        """Return once so many votes were counted as this."""

        def look() -> bool:
            text = request(self.testing.ratchet.admin_url, "/metrics").body.decode()
            found = re.search(rf'^ratchet_feedback_total{{feedback="{name}"}} (\S+)$', text, re.MULTILINE)
            return found is not None and float(found[1]) >= votes

        await asyncio.to_thread(await_true, look, f"{votes} votes counted as {name}")


@pytest_asyncio.fixture(loop_scope="module")
async def testing(tmp_path: Path) -> AsyncIterator[Contest]:
    async with contest(tmp_path, settings=RULES) as found:
        for model in (found.champion, found.challenger):
            model.on(CHAT_PATH, with_the_key)
        yield found


@pytest.mark.asyncio(loop_scope="module")
async def test_votes_on_what_was_refused_are_no_evidence_and_those_on_answers_decide(testing: Contest) -> None:
    await testing.begin()
    polls = Polls(testing)
    people = await polls.ask((f"person {n}" for n in range(60)), 200, **KEY)
    await polls.vote((record_id, 1 if n % 3 else -1) for n, (_, record_id) in enumerate(people))
    refused = await polls.ask((f"made up {n}" for n in range(STRANGERS)), 401)
    await polls.vote(
        (record_id, 1 if arm == "challenger" or n % 10 == 0 else -1) for n, (arm, record_id) in enumerate(refused)
    )
    await polls.counted("uncounted", STRANGERS)
    await polls.ask(["one more"], 200, **KEY)  # so that the next look has seen all of it
    assert await testing.judged(polls.asked)
    status = (await asyncio.to_thread(request, testing.ratchet.admin_url, "/status")).json()
    assert status["experiment"]["assessment"]["verdict"] == "continue"

    better = await polls.ask((f"voter {n}" for n in range(360)), 200, **KEY)
    await polls.vote(
        (record_id, 1 if (n % 10 if arm == "challenger" else n % 2) else -1)
        for n, (arm, record_id) in enumerate(better)
    )
    await testing.entry("won")
