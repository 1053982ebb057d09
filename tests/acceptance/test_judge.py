"""A running server with a judge that answers, talks nonsense, is busy, hangs, or is killed half-way: nothing else
changes, no answer is judged twice, and the judge is told nothing but the conversation."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.judge_server import JudgeServer
from tests.harness.model_server import create_model_server
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

pytestmark = pytest.mark.slow

_TOKEN = "the back end's own feedback token"
_KEY = "the key of the judge's endpoint"


@contextmanager
def judged(tmp_path: Path, **settings: Any) -> Iterator[tuple[RatchetProcess, JudgeServer]]:
    """A server, and the judge that it asks."""
    with JudgeServer(lambda asked: 0.9) as judge, serving_in_thread(create_model_server()) as url:
        table = {
            "kind": "openai",
            "url": judge.url,
            "model": "judge-1",
            "api_key": _KEY,
            "sample": 1.0,
            "delay_seconds": 0,
            "attempts": 1,
            **settings,
        }
        champion = {"url": url, "name": "the-incumbent", "model": "large"}
        tables = {"judge": table, "champion": champion, "feedback": {"token": _TOKEN}}
        with RatchetProcess(tmp_path / "r", champion=url, settings=tables) as ratchet:
            ratchet.await_admin()
            yield ratchet, judge


def ask(ratchet: RatchetProcess, *names: str) -> list[str]:
    """A request for each name, from a user of that name; the ids of the records."""
    ids = []
    for name in names:
        body = {"model": "small", "messages": [{"role": "user", "content": f"question {name}."}]}
        headers = {"x-ratchet-user": f"user-{name}"}
        answer = request(ratchet.base_url, "/v1/chat/completions", method="POST", body=body, headers=headers)
        assert answer.status == 200
        ids.append(answer.headers["x-ratchet-record-id"])
    return ids


def vote(ratchet: RatchetProcess, record_id: str, feedback: int) -> None:
    body = {"record_id": record_id, "feedback": feedback, "source": "ann"}
    headers = {"authorization": f"Bearer {_TOKEN}"}
    assert request(ratchet.base_url, "/-/feedback", method="POST", body=body, headers=headers).status == 202


def asked_about(judge: JudgeServer) -> Counter[str]:
    """How often the judge was asked about each question."""
    return Counter(name for text in judge.texts for name in re.findall(r"question (\w+)\.", text)[:1])


def await_metric(ratchet: RatchetProcess, value: float, name: str, **labels: str) -> None:
    await_true(lambda: ratchet.metric(name, **labels) >= value, f"{name} {labels} of {value:g}", ratchet._alive)
    assert ratchet.metric(name, **labels) == value


def in_trouble(ratchet: RatchetProcess) -> Any:
    """The status, once it says that the judge has a trouble."""
    status = request(ratchet.admin_url, "/status").json()
    return status if status["judge"]["trouble"] else None


def await_stored(ratchet: RatchetProcess, record_id: str) -> None:
    await_true(lambda: request(ratchet.admin_url, f"/api/records/{record_id}").status == 200, "the record")


def test_a_judge_that_fails_changes_nothing_but_its_own_page(tmp_path: Path) -> None:
    with judged(tmp_path) as (ratchet, judge):
        judge.script = lambda asked: "I would rather not say."
        ask(ratchet, "n1", "n2", "n3")
        await_metric(ratchet, 3, "ratchet_judge_failures_total", reason="unreadable")

        judge.script = lambda asked: (429, {"Retry-After": "0"})
        ask(ratchet, "b1")
        await_metric(ratchet, 1, "ratchet_judge_failures_total", reason="busy")
        assert request(ratchet.admin_url, "/health").json() == {"status": "ok"}
        status = await_true(lambda: in_trouble(ratchet), "the judge's trouble in the status", ratchet._alive)
        assert "429" in status["judge"]["trouble"]
        assert status["trouble"] is None
        assert ratchet.metric("ratchet_judge_scores_total") == 0

        judge.script = lambda asked: 0.9
        good = ask(ratchet, "g1", "g2")
        for record_id in good:
            vote(ratchet, record_id, 1)
        await_metric(ratchet, 2, "ratchet_judge_scores_total")
        [said] = request(ratchet.admin_url, f"/api/records/{good[0]}").json()["judgements"]
        assert said["score"] == 0.9
        assert "What the judge said" in request(ratchet.admin_url, f"/records/{good[0]}").body.decode()
        page = request(ratchet.admin_url, "/judge").body.decode()
        assert "Its score decides nothing" in page
        assert ratchet.metric("ratchet_judge_counts") == 0
        assert asked_about(judge) == dict.fromkeys(("n1", "n2", "n3", "b1", "g1", "g2"), 1)


def test_the_judge_is_told_the_conversation_and_nothing_else(tmp_path: Path) -> None:
    with judged(tmp_path) as (ratchet, judge):
        (record_id,) = ask(ratchet, "a")
        judge.await_asked(1)
        (told,) = judge.texts
        sent = " ".join(judge.headers[0].values()).replace("ratchet/", "").replace(_KEY, "")
        for secret in ("the-incumbent", "champion", "challenger", '"large"', '"small"', "user-a", record_id, _TOKEN):
            assert secret not in told
            assert secret not in sent
        assert judge.headers[0]["Authorization"] == f"Bearer {_KEY}"
        assert _KEY not in ratchet.log
        no_training = {"model": "small", "store": False, "messages": [{"role": "user", "content": "question private."}]}
        answer = request(ratchet.base_url, "/v1/chat/completions", method="POST", body=no_training)
        await_stored(ratchet, answer.headers["x-ratchet-record-id"])
        ask(ratchet, "later")
        judge.await_asked(2)
        await_metric(ratchet, 2, "ratchet_judge_scores_total")
        assert asked_about(judge) == {"a": 1, "later": 1}


def test_a_judge_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    never = threading.Event()
    with judged(tmp_path, timeout_seconds=600.0) as (ratchet, judge):
        judge.script = lambda asked: never
        try:
            ask(ratchet, *(f"h{at}" for at in range(12)))
            judge.await_asked(1)
            record_id = ask(ratchet, "after")[0]
            await_stored(ratchet, record_id)
            vote(ratchet, record_id, -1)
            await_true(
                lambda: request(ratchet.admin_url, f"/api/records/{record_id}").json()["feedback"] == -1, "the vote"
            )
            assert request(ratchet.admin_url, "/health").json() == {"status": "ok"}
            ratchet.stop()
        finally:
            never.set()


def test_a_killed_controller_has_no_answer_judged_twice(tmp_path: Path) -> None:
    held = threading.Event()
    names = [f"k{at}" for at in range(30)]
    with judged(tmp_path, concurrency=2) as (ratchet, judge):
        judge.script = lambda asked: held if len(judge.asked) > 5 else 0.9
        ask(ratchet, *names)
        judge.await_asked(7)
        controller = ratchet.kill("controller")
        held.set()
        judge.script = lambda asked: 0.9
        ratchet.await_new("controller", controller)
        ratchet.await_admin()
        (last,) = ask(ratchet, "last")
        await_stored(ratchet, last)
        await_true(lambda: asked_about(judge)["last"], "the last answer to be judged", ratchet._alive)
        counts = asked_about(judge)
        assert set(counts.values()) == {1}, counts
        lost = int(ratchet.metric("ratchet_judge_failures_total", reason="lost"))
        assert 2 <= lost <= 8, "the two that were open, and those that were written down to be asked next"
        never_asked = [name for name in names if name not in counts]
        assert len(never_asked) <= lost
