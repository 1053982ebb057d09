"""Everything that the dashboards show, made to happen in half a minute: people chat and vote, a model is trained,
checked, tested on half of them, promoted, watched; a judge and a collector are there. Real processes; hours are seconds
by settings alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from tests.dashboards.prometheus import Prometheus, prometheus
from tests.harness.judge_server import JudgeServer
from tests.harness.programs import EXAMPLES, program
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.webserver import serving_in_thread

__all__ = ["told"]

LEARNER = Path(__file__).with_name("learner.py")
PEOPLE = 80


def settings(better: str, seen: Path, archive: Path, judge: str, collector: str) -> dict[str, Any]:
    """The ordinary loop in a hurry; the model at `better` is what training returns, step by step as they are `seen`.

    Test and watch are long enough for several scrapes on a busy machine.
    """
    second = 1 / 3600
    return {
        "check_interval_seconds": 0.5,
        "gateway": {"expose_arm": True},
        "trigger_config": {"min_new_samples": 100, "min_usable_samples": 20, "cooldown_hours": 1000},
        "feedback": {"anonymous": ["thumb", "score"]},
        "generator_config": {"deduplicate": False},
        "ab_test_config": {
            "initial_challenger_traffic": 0.5,
            "latency_weight": 0,
            "min_duration_hours": 10 * second,
            "watch_hours": 10 * second,
            "min_samples_per_version": 60,
            "guardrails": {"max_slow_increase": 1.0},
        },
        "trainer": {
            "kind": "command",
            "command": [sys.executable, str(LEARNER), better, "{output_dir}", "{result_path}", str(seen)],
            "poll_seconds": 0.2,
        },
        "deployer": {"kind": "static"},
        "judge": {"kind": "openai", "url": judge, "model": "judge", "delay_seconds": 0},
        "telemetry": {"otlp_endpoint": collector},
        "store": {"archive": {"url": str(archive)}, "retention": {"interval_seconds": 1}},
    }


class People(threading.Thread):
    """They ask in turn, and like the challenger's answers better."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base_url = base_url
        self._done = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._done.wait(0.005):
            turn += 1
            self._ask(turn)

    def stop(self) -> None:
        self._done.set()
        self.join()

    def _ask(self, turn: int) -> None:
        person = f"person {turn % PEOPLE}"
        body = {"messages": [{"role": "user", "content": f"I need {turn} things"}]}
        answer = request(
            self._base_url, "/v1/chat/completions", method="POST", body=body, headers={"x-user-id": person}
        )
        better = answer.headers["x-ratchet-arm"] == "challenger"
        good = turn % 10 < (9 if better else 6)
        vote = {
            "record_id": answer.headers["x-ratchet-record-id"],
            "source": person,
            "feedback": 1 if good else -1,
            "quality_score": 0.95 if better else 0.75,
        }
        assert request(self._base_url, "/-/feedback", method="POST", body=vote).status == 202


@contextmanager
def told(folder: Path) -> Iterator[Prometheus]:
    """Prometheus, after it has seen all of it, and with everything still running."""
    with ExitStack() as stack:
        first, better = (
            stack.enter_context(program(EXAMPLES / "chat/eliza.py", "0", says=r"listens on (\S+)")) for _ in range(2)
        )
        seen = folder / "seen"
        seen.mkdir()
        judge = stack.enter_context(JudgeServer(lambda asked: 0.75))
        collector = stack.enter_context(serving_in_thread(_collects))
        rules = settings(better, seen, folder / "archive", judge.url, collector)
        ratchet = stack.enter_context(RatchetProcess(folder / "ratchet", champion=first, settings=rules))
        ratchet.await_admin()
        server = stack.enter_context(prometheus(folder / "prometheus", ratchet.admin_url))
        people = People(ratchet.base_url)
        people.start()
        stack.callback(people.stop)
        for step in range(1, 5):
            await_true(lambda step=step: step / 4 in server.values("ratchet_training_progress"), f"step {step}")
            (seen / str(step)).touch()
        await_true(lambda: _over(ratchet), "a promotion and the end of the watch over it", limit_s=400)
        await_true(lambda: server.values("ratchet_archive_behind_days"), "a pass of the archive")
        scraped = server.values("count(scrape_samples_scraped)")
        await_true(lambda: len(server.values("count(scrape_samples_scraped)")) >= len(scraped) + 2, "two more scrapes")
        yield server


async def _collects(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes whatever comes by OTLP."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _over(ratchet: RatchetProcess) -> bool:
    status = request(ratchet.admin_url, "/status").json()
    return "totals" in status and status["totals"]["promotions"] == 1 and status["phase"]["name"] == "idle"
