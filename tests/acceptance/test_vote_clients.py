"""Clients of other systems, unchanged but for base URL and key: their votes count, change and go.

The clients are imported late: some take seconds, which every run of other tests would pay, too.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness.ballots import TOKEN, Ballots

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
TRACE = "3a0de37932e8b19746f20b22414f862f"
RUN = "3f0c7f6e-0000-4000-8000-000000000001"


@pytest.fixture
async def ballots(tmp_path: Path) -> AsyncIterator[Ballots]:
    async with Ballots(tmp_path, {"score_names": ["quality"]}).running() as ballots:
        yield ballots


@pytest.fixture(autouse=True)
def _left_open() -> Iterator[None]:
    """Some clients close no connection; what they leave is no fault of ours."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def blocking(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The clients block; the server is in this loop."""
    return await asyncio.to_thread(call, *args, **kwargs)


async def test_langfuse(ballots: Ballots, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from langfuse import Langfuse
    from langfuse.api.commons.errors.unauthorized_error import UnauthorizedError

    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    client = await blocking(Langfuse, public_key="pk-1", secret_key=TOKEN, base_url=f"{ballots.url}/-/langfuse")
    stranger = await blocking(Langfuse, public_key="pk-2", secret_key="sk-wrong", base_url=f"{ballots.url}/-/langfuse")
    try:
        assert await blocking(client.auth_check)
        with pytest.raises(UnauthorizedError):
            await blocking(stranger.auth_check)
        early = {"trace_id": TRACE, "name": "user-feedback", "score_id": "score-1", "metadata": {"userId": "u-1"}}
        client.create_score(**early, value=1, data_type="BOOLEAN", comment="clear")
        await blocking(client.flush)
        record = await ballots.record(TRACE)  # behind its vote
        assert await ballots.thumb(record) == 1
        vote = await ballots.last_vote(record)
        assert (vote.source, vote.comment, vote.tags["name"]) == ("u-1", "clear", "user-feedback")

        client.create_score(**early, value=0, data_type="BOOLEAN")
        client.create_score(trace_id=TRACE, name="quality", value=0.25, score_id="score-2")
        client.create_score(trace_id=TRACE, name="verdict", value="good", data_type="CATEGORICAL", comment="short")
        await blocking(client.flush)
        view = await ballots.view(record)
        assert (view.row.feedback, view.row.quality, view.row.quality_source) == (-1, 0.25, "feedback")
        assert "verdict: good — short" in [vote.comment for vote in view.votes]

        await blocking(client.api.scores.delete, "score-1")
        await blocking(client.api.scores.delete, "score-2")
        assert (await ballots.view(record)).row.feedback is None
        assert (await ballots.view(record)).row.quality == record.quality
        client.create_score(trace_id=TRACE, name="user-feedback", value=1, score_id="score-3")
        client.create_score(dataset_run_id="run-1", name="user-feedback", value=1)
        await blocking(client.flush)
        assert await ballots.thumb(record) == 1
        assert (await ballots.last_vote(record)).source == "score-3", "where nobody is named, it stands for its voter"

        assert "accepted 1 and rejected 1 of 2 scores" in caplog.text, "its SDK says what was wrong with the other"
        caplog.clear()
        stranger.create_score(trace_id=TRACE, name="user-feedback", value=0)
        await blocking(stranger.flush)
        assert "Unauthorized" in caplog.text
        assert await ballots.thumb(record) == 1
    finally:
        await blocking(client.shutdown)
        await blocking(stranger.shutdown)


async def test_langsmith(ballots: Ballots) -> None:
    from langsmith import Client
    from langsmith.utils import LangSmithAuthError, LangSmithError

    def client(key: str) -> Client:
        return Client(api_url=f"{ballots.url}/-/langsmith", api_key=key, info={}, retry_config=None)

    smith, stranger = client(TOKEN), client("lsv2_wrong")
    record = await ballots.record(RUN)
    given = await blocking(
        smith.create_feedback, RUN, key="user_score", score=1, comment="nice", correction={"answer": "Bern"},
        source_info={"user": "u-1"}, trace_id=RUN,
    )  # fmt: skip
    assert await ballots.thumb(record) == 1
    vote = await ballots.last_vote(record)
    assert (vote.source, vote.comment, vote.correction) == ("u-1", "nice", "Bern")

    await blocking(smith.update_feedback, given.id, score=0, comment="changed")
    assert await ballots.thumb(record) == -1
    await blocking(smith.create_feedback, RUN, key="quality", score=0.5)
    assert (await ballots.view(record)).row.quality == 0.5
    await blocking(smith.create_feedback, RUN, key="user_score", score=1, feedback_source_type="model")
    assert await ballots.thumb(record) == -1, "a model's opinion is no user's"
    assert (await ballots.last_vote(record)).comment == "user_score (model): 1"
    await blocking(smith.delete_feedback, given.id)
    assert await ballots.thumb(record) is None
    with pytest.raises(LangSmithAuthError):
        await blocking(stranger.create_feedback, RUN, key="user_score", score=1)
    with pytest.raises(LangSmithError, match="no_name"):
        await blocking(smith.create_presigned_feedback_token, RUN, "no_name")
    assert await ballots.thumb(record) is None


async def test_a_langsmith_url_is_one_vote_without_a_key(ballots: Ballots) -> None:
    from langsmith import Client

    smith = Client(api_url=f"{ballots.url}/-/langsmith", api_key=TOKEN, info={})
    anybody = Client(api_url=f"{ballots.url}/-/langsmith", api_key="none", info={})
    one, other = await ballots.record(RUN), await ballots.record(str(uuid.UUID(int=7)))
    later = datetime.timedelta(minutes=20)
    token = await blocking(smith.create_presigned_feedback_token, RUN, "user_score", expiration=later)
    assert token.url == f"{ballots.url}/-/langsmith/feedback/tokens/{token.id}"
    await blocking(anybody.create_feedback_from_token, token.url, 1, comment="good", correction={"answer": "mine"})
    vote = await ballots.last_vote(one)
    assert (await ballots.thumb(one), vote.comment, vote.correction) == (1, "good", "mine")
    assert not [sample.correction async for sample in ballots.store.samples.judged()], "that needs the token"
    async with aiohttp.ClientSession() as session:
        async with session.get(token.url, params={"score": "0", "comment": "no"}) as answer:
            assert answer.status == 200
        assert (await ballots.view(one)).row.feedback == -1, "one URL is one vote"
        async with session.get(token.url) as answer:
            assert answer.status == 400, "a link that is only looked at does not vote"

        bits = uuid.UUID(str(token.id)).int
        for altered in (bits ^ 1, bits ^ 1 << 44, bits ^ 1 << 127, uuid.UUID(int=0).int):
            url = f"{ballots.url}/-/langsmith/feedback/tokens/{uuid.UUID(int=altered)}"
            async with session.post(url, json={"score": 1}) as answer:
                assert answer.status == 404
        async with session.post(
            token.url, json={"score": 1, "run_id": str(uuid.UUID(int=7)), "key": "quality"}
        ) as answer:
            assert answer.status == 200
        assert [await ballots.thumb(record) for record in (one, other)] == [1, None], "it is for its own answer"

        again = await blocking(smith.create_presigned_feedback_token, RUN, "user_score", expiration=later * 9)
        assert again.id != token.id
        async with session.post(again.url, json={"score": 0}) as answer:
            assert answer.status == 200
        assert await ballots.thumb(one) == -1, "who gets two URLs has one vote"
        async with session.post(token.url, json={"score": 1}) as answer:
            assert answer.status == 200
        assert await ballots.thumb(one) == 1

        [quality] = await blocking(smith.create_presigned_feedback_tokens, RUN, ["quality"])
        async with session.post(quality.url, json={"score": 0.9}) as answer:
            assert answer.status == 200
        assert (await ballots.view(one)).row.quality == 0.9

        ballots.install.clock.advance(19 * 60)
        async with session.post(token.url, json={"score": 0}) as answer:
            assert answer.status == 200, "a quarter of an hour is not over"
        ballots.install.clock.advance(17 * 60)
        async with session.post(token.url, json={"score": 1}) as answer:
            assert answer.status == 410
    assert await ballots.thumb(one) == -1


async def test_mlflow(ballots: Ballots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{ballots.url}/-/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import mlflow
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.exceptions import MlflowException

    trace = f"tr-{TRACE}"
    user = AssessmentSource(source_type="HUMAN", source_id="u-1")
    log = {"trace_id": trace, "name": "thumb", "value": True, "rationale": "clear", "source": user}
    record = await ballots.record(trace)
    given = await blocking(mlflow.log_feedback, **log)
    assert given.assessment_id
    vote = await ballots.last_vote(record)
    assert (await ballots.thumb(record), vote.source, vote.comment) == (1, "u-1", "clear")

    changed = Feedback(name="thumb", value=False, rationale="wrong", source=user)
    await blocking(mlflow.update_assessment, trace_id=trace, assessment_id=given.assessment_id, assessment=changed)
    assert await ballots.thumb(record) == -1
    await blocking(mlflow.log_feedback, trace_id=trace, name="thumb", value=True)  # a program's, where nobody is named
    await blocking(mlflow.log_expectation, trace_id=trace, name="expected_response", value="Bern", source=user)
    view = await ballots.view(record)
    assert (view.row.feedback, view.votes[-2].comment, view.votes[-1].correction) == (-1, "thumb (CODE): true", "Bern")
    await blocking(mlflow.delete_assessment, trace_id=trace, assessment_id=given.assessment_id)
    assert await ballots.thumb(record) is None

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wrong")
    with pytest.raises(MlflowException, match="feedback token"):
        await blocking(mlflow.log_feedback, **log)
    assert await ballots.thumb(record) is None


async def test_phoenix(ballots: Ballots) -> None:
    import httpx
    from phoenix.client import Client

    client = Client(base_url=f"{ballots.url}/-/phoenix", api_key=TOKEN)
    span = "0123456789abcdef"
    said: dict[str, Any] = {"span_id": span, "annotation_name": "thumb", "annotator_kind": "HUMAN", "identifier": "u-1"}
    record = await ballots.record(span)
    await blocking(client.spans.add_span_annotation, **said, label="up", score=1.0, explanation="clear")
    vote = await ballots.last_vote(record)
    assert (await ballots.thumb(record), vote.source, vote.comment) == (1, "u-1", "clear")
    await blocking(client.spans.add_span_annotation, **said, label="down")
    assert await ballots.thumb(record) == -1
    await blocking(client.spans.add_span_annotation, **said | {"annotator_kind": "LLM", "identifier": "j"}, score=1.0)
    assert await ballots.thumb(record) == -1
    stranger = Client(base_url=f"{ballots.url}/-/phoenix", api_key="wrong")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await blocking(stranger.spans.add_span_annotation, **said, score=1.0)


async def test_portkey(ballots: Ballots) -> None:
    from portkey_ai import Portkey

    client = Portkey(api_key=TOKEN, base_url=f"{ballots.url}/-/portkey/v1")
    record = await ballots.record("trace-0001")
    given = await blocking(
        client.feedback.create, trace_id="trace-0001", value=1, weight=0.5, metadata={"_user": "u-1"}
    )
    assert given.status == "success"
    assert (await ballots.thumb(record), (await ballots.last_vote(record)).source) == (1, "u-1")
    await blocking(client.feedback.update, feedback_id=given.feedback_ids[0], value=-5)
    assert await ballots.thumb(record) == -1
    await blocking(client.feedback.create, trace_id="trace-0001", value=7, metadata={"_user": "u-1"})
    assert await ballots.thumb(record) == 1
    stranger = Portkey(api_key="wrong", base_url=f"{ballots.url}/-/portkey/v1", max_retries=0)
    with pytest.raises(Exception, match="feedback token"):
        await blocking(stranger.feedback.create, trace_id="trace-0001", value=-1)
