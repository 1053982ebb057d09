"""The URLs of other systems' clients under attack, and where what they send is wrong."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from proxy.config import parse_config
from proxy.errors import ConfigError
from tests.harness.ballots import TOKEN, Ballots

KEY = {"authorization": f"Bearer {TOKEN}"}
TRACE = "3a0de37932e8b19746f20b22414f862f"
RUN = "3f0c7f6e-0000-4000-8000-000000000001"
ASSESSMENTS = f"/-/mlflow/api/3.0/mlflow/traces/tr-{TRACE}/assessments"
THUMB = {"traceId": TRACE, "name": "user-feedback", "value": 1, "dataType": "BOOLEAN"}
VOTES: dict[tuple[str, str], Any] = {
    ("POST", "/-/langfuse/api/public/scores"): THUMB,
    ("POST", "/-/langfuse/api/public/ingestion"): {"batch": [{"id": "e", "type": "score-create", "body": THUMB}]},
    ("DELETE", "/-/langfuse/api/public/scores/s-1"): None,
    ("GET", "/-/langfuse/api/public/projects"): None,
    ("GET", "/-/langfuse/api/public/health"): None,
    ("POST", "/-/langfuse/api/public/otel/v1/traces"): {},
    ("POST", "/-/langsmith/feedback"): {"run_id": RUN, "key": "thumb", "score": 1},
    ("PATCH", "/-/langsmith/feedback/f-1"): {"score": 0},
    ("DELETE", "/-/langsmith/feedback/f-1"): None,
    ("POST", "/-/langsmith/feedback/tokens"): {"run_id": RUN, "feedback_key": "thumb"},
    ("POST", "/-/langsmith/runs"): {},
    ("POST", "/-/langsmith/runs/batch"): {},
    ("PATCH", "/-/langsmith/runs/r-1"): {},
    ("POST", ASSESSMENTS): {
        "assessment": {"assessment_name": "thumb", "source": {"source_type": "HUMAN"}, "feedback": {"value": True}}
    },
    ("PATCH", f"{ASSESSMENTS}/a-1"): {"assessment": {"feedback": {"value": False}}},
    ("DELETE", f"{ASSESSMENTS}/a-1"): None,
    ("POST", "/-/phoenix/v1/span_annotations"): {
        "data": [{"span_id": "0123456789abcdef", "name": "thumb", "annotator_kind": "HUMAN", "result": {"score": 1}}]
    },
    ("POST", "/-/phoenix/v1/trace_annotations"): {
        "data": [{"trace_id": TRACE, "name": "thumb", "annotator_kind": "HUMAN", "result": {"label": "up"}}]
    },
    ("POST", "/-/portkey/v1/feedback"): {"trace_id": TRACE, "value": 1},
    ("PUT", "/-/portkey/v1/feedback/f-1"): {"value": -1},
    ("POST", "/-/helicone/v1/request/req-1/feedback"): {"rating": True},
    ("POST", "/-/helicone/v1/request/req-1/score"): {"scores": {"accuracy": 90}},
    ("POST", "/-/assistant-ui/v1/threads/t/messages/m/feedback"): {"type": "positive"},
}
SAYS: Mapping[str, Any] = {
    "langfuse": lambda body: body["message"] == body["error"],
    "langsmith": lambda body: [*body] == ["detail"],
    "mlflow": lambda body: [*body] == ["error_code", "message"],
    "phoenix": lambda body: [*body] == ["detail"],
    "portkey": lambda body: body["status"] == "failure" and body["error"]["message"],
    "helicone": lambda body: body["data"] is None and body["error"],
    "assistant-ui": lambda body: body["message"],
}


@pytest.fixture
async def ballots(tmp_path: Path) -> AsyncIterator[Ballots]:
    async with Ballots(tmp_path, {"max_batch": 20}).running() as ballots:
        yield ballots


async def call(ballots: Ballots, method: str, path: str, body: Any = None, headers: Any = KEY) -> tuple[int, Any]:
    data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, ballots.url + path, data=data, headers=headers) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if "json" in answer.content_type else text


async def stored(ballots: Ballots) -> int:
    """How many votes were taken."""
    await ballots.ingestor.run_once()
    async with ballots.store._db.read() as connection:
        return int((await connection.exec_driver_sql("SELECT count(*) FROM feedback")).scalar_one())


async def test_each_url_takes_its_vote_with_the_token_and_nothing_without(tmp_path: Path) -> None:
    async with Ballots(tmp_path).running() as ballots:
        for (method, path), body in VOTES.items():
            refusals = [await call(ballots, method, path, body, headers) for headers in ({}, {"x-api-key": ""})]
            for status, said in refusals:
                assert status == 401, path
                assert SAYS[path.split("/")[2]](said), (path, said)
        assert await stored(ballots) == 0
        assert ballots.refusals("no_token") == 2 * len(VOTES)
        for (method, path), body in VOTES.items():
            status, said = await call(ballots, method, path, body)
            assert 200 <= status < 300, (path, said)
        assert await stored(ballots) == 16


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Basic {b64encode(f'pk:{TOKEN}'.encode()).decode()}"},
        {"x-api-key": TOKEN},
        {"x-portkey-api-key": TOKEN, "authorization": "Bearer the provider's"},
        {"api_key": TOKEN},
        {"helicone-auth": f"Bearer {TOKEN}"},
    ],
)
async def test_the_token_is_taken_where_a_client_has_its_key(ballots: Ballots, headers: dict[str, str]) -> None:
    assert (await call(ballots, "POST", "/-/langfuse/api/public/scores", THUMB, headers))[0] == 200


@pytest.mark.parametrize("wrong", ["Basic !!!", "Basic eA==", "Bearer", "Basic cGs6c2s=", f"Digest {TOKEN}"])
async def test_who_guesses_has_to_wait_and_the_right_token_has_not(ballots: Ballots, wrong: str) -> None:
    seen = []
    for _ in range(12):
        status, _ = await call(ballots, "DELETE", "/-/langfuse/api/public/scores/s", None, {"authorization": wrong})
        seen.append(status)
    none = wrong in ("Bearer", "Basic eA==") or wrong.startswith("Digest")
    assert seen == ([401] * 12 if none else [401] * 10 + [429] * 2)
    assert (await call(ballots, "DELETE", "/-/langfuse/api/public/scores/s"))[0] == 202


async def test_without_a_configured_token_the_answer_says_what_is_missing(tmp_path: Path) -> None:
    async with Ballots(tmp_path, {"token": None}).running() as ballots:
        for headers in ({}, {"authorization": "Bearer "}, {"x-api-key": "None"}):
            status, said = await call(ballots, "POST", "/-/langsmith/feedback", {}, headers)
            assert status == 401
            assert "feedback.token, which is not configured" in said["detail"]


JUNK = [
    b"", b"{", b"null", b"[]", b"[1]", b"1", b'"x"', b"{}", b'{"batch": 3}', b'{"data": [null]}', b'{"scores": [1]}',
    b'{"value": 1e999, "trace_id": "t"}', b'{"value": NaN, "trace_id": "t"}', b"[" * 5000,
    b'{"assessment": []}', b'{"assessment": {"feedback": 1, "source": []}}', b'{"rating": null}', b'{"type": []}',
    b'{"run_id": [], "key": {}}', b'{"run_id": "r", "key": "thumb", "score": %b}' % (b"9" * 6000),
    b'{"run_id": "r", "feedback_key": "thumb", "expires_at": "soon"}',
    b'{"run_id": "r", "feedback_key": "thumb", "expires_in": {"days": 1e300}}',
    b'{"traceId": "t", "name": "n", "value": "", "comment": " "}',
    b'{"traceId": "t", "name": "n", "value": {"a": [[[[1]]]]}, "metadata": 7}',
]  # fmt: skip


async def test_junk_is_refused_in_the_words_of_the_system_and_never_breaks(ballots: Ballots) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path in VOTES:
            if method in ("GET", "DELETE") or "/runs" in path or "/otel/" in path:
                continue
            for body in JUNK:
                async with session.request(method, ballots.url + path, data=body, headers=KEY) as answer:
                    assert answer.status in (200, 202, 207, 400, 413), (path, body[:60], answer.status)
                    said = await answer.json()
                    assert answer.status < 400 or SAYS[path.split("/")[2]](said), (path, said)


async def test_too_much_at_once_is_refused_whole(ballots: Ballots) -> None:
    many = [dict(THUMB, id=f"s{n}") for n in range(21)]
    assert (await call(ballots, "POST", "/-/langfuse/api/public/scores", many))[0] == 413
    events = [{"id": "e", "type": "score-create", "body": score} for score in many]
    assert (await call(ballots, "POST", "/-/langfuse/api/public/ingestion", {"batch": events}))[0] == 413
    assert (await call(ballots, "POST", "/-/phoenix/v1/span_annotations", {"data": many}))[0] == 413
    assert (await call(ballots, "POST", "/-/portkey/v1/feedback", many))[0] == 413
    assert (await call(ballots, "POST", "/-/langsmith/feedback/tokens", many))[0] == 413
    scores = {"scores": {f"s{n}": 1 for n in range(21)}}
    assert (await call(ballots, "POST", "/-/helicone/v1/request/r/score", scores))[0] == 413
    assert (await call(ballots, "POST", "/-/langfuse/api/public/scores", b" " * ((4 << 20) + 1)))[0] == 413
    assert (await call(ballots, "POST", "/-/langfuse/api/public/otel/v1/traces", b" " * ((20 << 20) + 1)))[0] == 413
    assert await stored(ballots) == 0
    assert ballots.refusals("too_large") == 8


async def test_of_a_list_of_scores_those_that_are_right_are_kept(ballots: Ballots) -> None:
    record, old = await ballots.record(TRACE), ballots.install.ids.mint(ballots.install.clock.now() - 91 * 86_400)
    await ballots.record("shared-name", user="ann")
    await ballots.record("shared-name", user="bob")
    wrong = [
        {"name": "x"},
        "text",
        dict(THUMB, name=" "),
        dict(THUMB, traceId=old.text),
        dict(THUMB, traceId="shared-name"),
    ]
    status, said = await call(ballots, "POST", "/-/langfuse/api/public/scores", [*wrong, dict(THUMB, id="s")])
    assert (status, said["accepted"], said["rejected"]) == (207, 1, 5)
    words = ("traceId", "not an object", "name", "older than 90 days", "several users")
    assert all(word in error["message"] for word, error in zip(words, said["errors"], strict=True))
    assert await ballots.thumb(record) == 1
    assert (await call(ballots, "POST", "/-/portkey/v1/feedback", {"trace_id": "shared-name", "value": 1}))[0] == 409


async def test_of_other_lists_too_what_is_right_is_kept_and_what_is_wrong_is_named(ballots: Ballots) -> None:
    record = await ballots.record(TRACE)
    annotation = {"trace_id": TRACE, "name": "thumb", "annotator_kind": "HUMAN", "identifier": "phoenix-1"}
    up = {"id": "f-1", "run_id": TRACE, "key": "thumb", "score": 1}
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="feedback.%d"\r\n\r\n%b\r\n' % (n, part)
        for n, part in enumerate((b"{", json.dumps(up).encode(), b'{"key": "x"}'))
    )
    multipart = KEY | {"content-type": "multipart/form-data; boundary=b"}
    for path, body, headers, wrong, thumb in (
        ("portkey/v1/feedback", [{"trace_id": TRACE, "value": -1}, {"trace_id": TRACE, "value": 11}], KEY, [1], -1),
        ("phoenix/v1/trace_annotations", {"data": [7, annotation | {"result": {"score": 1}}]}, KEY, [0], 0),
        ("langsmith/runs/multipart", parts + b"--b--", multipart, [0, 2], pytest.approx(1 / 3)),
    ):
        status, said = await call(ballots, "POST", f"/-/{path}", body, headers)
        words = str(said.get("message") or said.get("detail"))
        assert (status, [n for n in range(3) if f"[{n}]: " in words]) == (400, wrong), words
        assert "1 of " in words
        assert await ballots.thumb(record) == thumb, path
    many = {"data": [{"name": str(n)} for n in range(20)]}
    _, said = await call(ballots, "POST", "/-/phoenix/v1/trace_annotations", many)
    assert "and 15 more; 0 of 20 were kept" in said["detail"]
    _, said = await call(ballots, "POST", f"/-/helicone/v1/request/{TRACE}/score", {"scores": {"a": 1, "b": None}})
    assert "scores[1]: " in said["error"]
    assert (await ballots.last_vote(record)).comment == "a: 1"


async def test_an_id_may_have_any_letters_and_be_long_where_another_name_is_given(ballots: Ballots) -> None:
    record = await ballots.record(TRACE)
    for id in ("a/b", "ä ö?#%", "🙂" * 40, "x" * 5000):
        await call(ballots, "POST", "/-/langfuse/api/public/scores", dict(THUMB, id=id, observationId="o" * 300))
        assert await ballots.thumb(record) == 1
        path = f"/-/langfuse/api/public/scores/{quote(id, safe='')}"
        assert (await call(ballots, "DELETE", path))[0] == 202
        assert await ballots.thumb(record) is None, id
    _, said = await call(ballots, "POST", "/-/portkey/v1/feedback", {"trace_id": "t" * 300, "value": 1})
    assert "300 characters; the limit is 256" in said["message"]


async def test_a_trace_that_ratchet_itself_has_sent_out_names_its_record(ballots: Ballots) -> None:
    record = await ballots.record()
    await call(
        ballots, "POST", "/-/langfuse/api/public/scores", dict(THUMB, traceId=record.id, observationId=record.id[16:])
    )
    assert await ballots.thumb(record) == 1
    await call(
        ballots, "POST", f"/-/mlflow/api/3.0/mlflow/traces/tr-{record.id}/assessments", VOTES["POST", ASSESSMENTS]
    )
    assert len((await ballots.view(record)).votes) == 2


async def test_events_that_are_no_scores_are_dropped_and_the_answer_says_so(ballots: Ballots) -> None:
    record = await ballots.record(TRACE)
    events = [
        {"id": "1", "type": "trace-create", "body": {"id": TRACE, "input": "private words"}},
        {"id": "2", "type": "score-create", "body": THUMB},
        {"id": "3", "type": "score-create", "body": {"name": "user-feedback", "value": 1}},
        7,
    ]
    status, said = await call(ballots, "POST", "/-/langfuse/api/public/ingestion", {"batch": events})
    assert (status, said["ignored"]) == (207, 2)
    assert [one["id"] for one in said["successes"]] == ["1", "2", ""]
    assert [(one["id"], one["status"]) for one in said["errors"]] == [("3", 400)]
    assert await ballots.thumb(record) == 1
    assert b"private words" not in b"".join(path.read_bytes() for path in ballots.root.rglob("*") if path.is_file())


async def test_ids_of_two_systems_are_two_votes(ballots: Ballots) -> None:
    record = await ballots.record(RUN)
    await call(ballots, "POST", "/-/langfuse/api/public/scores", dict(THUMB, id="same", traceId=RUN))
    bad = {"id": "same", "run_id": RUN, "key": "thumb", "score": 0, "feedback_source": {"metadata": {"user": "bob"}}}
    await call(ballots, "POST", "/-/langsmith/feedback", bad)
    assert await ballots.thumb(record) == 0
    await call(ballots, "DELETE", "/-/langfuse/api/public/scores/same")
    assert await ballots.thumb(record) == -1


async def test_a_change_that_comes_before_its_vote_waits_for_it(ballots: Ballots) -> None:
    record = await ballots.record(RUN)
    created = {"id": "f-1", "run_id": RUN, "key": "thumb", "score": 1}
    later = ballots.install.clock.now() + 5
    await call(ballots, "PATCH", "/-/langsmith/feedback/f-1", {"score": 0})
    assert (await ballots.view(record)).votes == ()
    ballots.install.clock.advance(-5)
    await call(ballots, "POST", "/-/langsmith/feedback", created)
    assert ballots.install.clock.now() < later
    assert await ballots.thumb(record) == -1


async def test_a_url_for_one_vote_is_held_to_the_rate_of_strangers(tmp_path: Path) -> None:
    async with Ballots(tmp_path, {"rate_per_second": 2, "max_batch": 2}).running() as ballots:
        _, made = await call(ballots, "POST", "/-/langsmith/feedback/tokens", {"run_id": RUN, "feedback_key": "thumb"})
        path = f"/-/langsmith/feedback/tokens/{made['id']}"
        answers = [(await call(ballots, "POST", path, {"score": 1}, {}))[0] for _ in range(3)]
        assert answers == [200, 200, 429]
        guesses = [f"/-/langsmith/feedback/tokens/{uuid.UUID(int=n)}" for n in range(20)]
        ballots.install.clock.advance(60)
        seen = [(await call(ballots, "GET", f"{guess}?score=1", None, {}))[0] for guess in guesses]
        assert set(seen) == {404, 429}
        assert (await call(ballots, "GET", "/-/langsmith/feedback/tokens/nonsense?score=1", None, {}))[0] == 429


async def test_words_behind_a_thumb_by_url_leave_the_thumb(ballots: Ballots) -> None:
    record = await ballots.record(RUN)
    _, made = await call(ballots, "POST", "/-/langsmith/feedback/tokens", {"run_id": RUN, "feedback_key": "thumb"})
    path = made["url"].removeprefix(ballots.url)
    assert (await call(ballots, "POST", path, {"score": 1}, {}))[0] == 200
    assert (await call(ballots, "POST", path, {"comment": "short, and to the point"}, {}))[0] == 200
    assert await ballots.thumb(record) == 1.0
    assert "short" in str((await ballots.last_vote(record)).comment)
    assert (await call(ballots, "POST", path, {"score": 0}, {}))[0] == 200
    assert await ballots.thumb(record) == -1.0, "the last thumb counts"


async def test_no_url_is_made_for_a_signed_id_which_it_could_not_name(ballots: Ballots) -> None:
    signed = ballots.install.ids.sign((await ballots.record(RUN)).id)
    status, said = await call(
        ballots, "POST", "/-/langsmith/feedback/tokens", {"run_id": signed, "feedback_key": "thumb"}
    )
    assert (status, "GET /-/feedback?record_id=" in said["detail"]) == (400, True)


async def test_a_body_of_nothing_but_boundaries_is_refused(ballots: Ballots) -> None:
    headers = KEY | {"content-type": "multipart/form-data; boundary=a"}
    assert (await call(ballots, "POST", "/-/langsmith/runs/multipart", b"--a" * 100_001, headers))[0] == 413


async def test_a_url_is_of_this_install_and_outlives_a_rotation_of_its_keys(tmp_path: Path) -> None:
    wanted = {"run_id": RUN, "feedback_key": "thumb", "expires_in": {"days": 400}}
    async with Ballots(tmp_path / "one").running() as one, Ballots(tmp_path / "two").running() as two:
        _, made = await call(one, "POST", "/-/langsmith/feedback/tokens", wanted)
        path = f"/-/langsmith/feedback/tokens/{made['id']}"
        assert (await call(two, "POST", path, {"score": 1}, {}))[0] == 404
        one.install.keys.rotate(notice_s=0)
        one.install.keys.reload()
        assert (await call(one, "POST", path, {"score": 1}, {}))[0] == 200
        _, fresh = await call(one, "POST", "/-/langsmith/feedback/tokens", wanted)
        assert fresh["id"] != made["id"]


async def test_a_url_begins_where_clients_reach_us(tmp_path: Path) -> None:
    wanted = {"run_id": RUN, "feedback_key": "thumb"}
    async with Ballots(tmp_path, public_url="https://llm.example.com/").running() as ballots:
        _, made = await call(ballots, "POST", "/-/langsmith/api/v1/feedback/tokens", wanted)
        assert made["url"] == f"https://llm.example.com/-/langsmith/api/v1/feedback/tokens/{made['id']}"
        _, several = await call(ballots, "POST", "/-/langsmith/feedback/tokens", [wanted, wanted])
        assert [one["url"].partition("/-/")[0] for one in several] == ["https://llm.example.com"] * 2
    for wrong in ("llm.example.com", "ftp://llm.example.com", "https://llm.example.com/?a=1", "*"):
        with pytest.raises(ConfigError, match="public_url"):
            parse_config({"server": {"public_url": wrong}, "champion": {"url": "http://127.0.0.1:1"}})


async def test_what_cannot_be_written_is_to_be_sent_again(tmp_path: Path) -> None:
    async with Ballots(tmp_path, spool_bytes=65_536).running() as ballots:
        long = dict(THUMB, comment="x" * 9000)
        statuses = [(await call(ballots, "POST", "/-/langfuse/api/public/scores", [long] * 5))[0] for _ in range(3)]
        assert statuses[0] == 202
        assert statuses[-1] == 503


async def test_floods_at_once_are_all_kept_once(ballots: Ballots) -> None:
    record = await ballots.record(TRACE)
    scores = [[dict(THUMB, id=f"s{n}", value=n % 2) for _ in range(20)] for n in range(30)]
    answers = await asyncio.gather(*(call(ballots, "POST", "/-/langfuse/api/public/scores", batch) for batch in scores))
    assert {status for status, _ in answers} == {202}
    view = await ballots.view(record)
    assert sum(vote.effective for vote in view.votes) == 30
    assert view.row.feedback == 0
