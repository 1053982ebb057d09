"""The library: the quick start's code with the import line changed, from threads, event loops and processes."""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.records import Arm
from proxy import (
    ABTestConfig,
    ContinuousLearningLoop,
    DataGeneratorConfig,
    LoopConfig,
    TrainingDataGenerator,
    UsageLogger,
)
from proxy.clock import ManualClock
from proxy.config.load import parse_as
from tests.harness.programs import EXAMPLES
from tests.harness.tables import sqlite_with_tables

HOUR_S = 3600.0
DEMO = runpy.run_path(str(EXAMPLES / "continuous_learning_demo.py"), run_name="demo")


@pytest.fixture
def usage(tmp_path: Path) -> Iterator[UsageLogger]:
    with UsageLogger(tmp_path / "usage.db") as usage:
        yield usage


def config(root: Path, **changes: Any) -> LoopConfig:
    """The demo's small thresholds, with stages and a test of an hour; the experiment is decided by quality. The log is
    there already: making it takes longest."""
    sqlite_with_tables(root / "usage.db")
    settings: LoopConfig = DEMO["settings"](root)
    staged = replace(settings.ab_test_config, stages=ABTestConfig().stages, min_duration_hours=1.0)
    here = {"generator_config": DataGeneratorConfig(near_duplicate_threshold=1.0), "ab_test_config": staged}
    return replace(settings, **(here | changes))


def train_into(root: Path) -> Any:
    """The quick start's training function."""

    def train_model(data_path: str) -> dict[str, Any]:
        lines = Path(data_path).read_text().splitlines()
        model_path = root / "models" / f"model-{len(lines)}"
        model_path.write_text("weights")
        return {"loss": 0.25, "accuracy": 0.9, "model_path": str(model_path)}

    return train_model


def use(loop: ContinuousLearningLoop, n: int, quality: dict[Arm, float] | None = None) -> None:
    """`n` users ask twice each, at the model that the loop chooses for them, eight at a time."""

    def ask(user: int) -> None:
        choice = loop.choose_model(f"user {user}")
        score = (quality or {}).get(choice.arm, 0.8) + 0.01 * (user % 5)
        for turn in range(2):
            loop.log_usage(
                query=f"question {user} {turn} {choice.name}",
                response=f"the answer to number {user} in turn {turn} is {user * 31 + turn}",
                model=choice.name,
                latency_ms=12.5,
                quality_score=min(1.0, score),
                user=f"user {user}",
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(n)))


def test_demo_1_log_some_usage(usage: UsageLogger) -> None:
    record_id = usage.log(
        query="What is 65816 assembly?",
        response="65816 is the CPU used in the SNES...",
        model="nayru-v1",
        quality_score=0.85,
    )
    assert usage.record_feedback(record_id, feedback=1)
    (record,) = usage.get_records()
    assert record["record_id"] == record_id
    assert record["model"] == "nayru-v1"
    assert record["quality_score"] == 0.85
    assert record["feedback"] == 1.0


def test_statistics_count_every_kind_of_vote(usage: UsageLogger) -> None:
    ids = [usage.log(f"q{index}", "r", "m", quality_score=0.5) for index in range(4)]
    for record_id, feedback in zip(ids, (1, 0, -1), strict=False):
        assert usage.record_feedback(record_id, feedback)
    statistics = usage.get_statistics()
    assert statistics["total"] == 4
    assert statistics["with_feedback"] == 3
    assert statistics["feedback_rate"] == 0.75
    assert statistics["avg_quality_score"] == pytest.approx(0.5)
    assert (statistics["positive"], statistics["neutral"], statistics["negative"]) == (1, 1, 1)


def test_an_empty_log_has_statistics_that_print(usage: UsageLogger) -> None:
    statistics = usage.get_statistics()
    assert (
        f"{statistics['total']} {statistics['feedback_rate']:.1f} {statistics['avg_quality_score']:.3f}"
        == "0 0.0 0.000"
    )


def test_a_vote_for_an_unknown_record_is_refused(usage: UsageLogger) -> None:
    assert not usage.record_feedback("no such record", feedback=1)
    assert not usage.record_feedback("0" * 32, feedback=1)
    with pytest.raises(ValueError, match="not 1, 0 or -1"):
        usage.record_feedback("0" * 32, feedback=5)
    for score in (7.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            usage.log("q", "r", "m", quality_score=score)
    for latency_ms in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="latency_ms"):
            usage.log("q", "r", "m", latency_ms=latency_ms)


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with UsageLogger("~/.context/training/continuous/usage.db") as usage:
        usage.log("q", "r", "m")
    assert (tmp_path / ".context/training/continuous/usage.db").exists()


def test_the_whole_quick_start(tmp_path: Path) -> None:
    """Log, retrain, challenge, promote; the keys that the quick start reads are there at every step."""
    clock = ManualClock()
    train_model = train_into(tmp_path)
    with ContinuousLearningLoop(config(tmp_path), clock=clock) as loop:
        result = loop.run_iteration(train_fn=train_model)
        assert result["retrain_triggered"] is False
        assert result["timestamp"].endswith("+00:00")

        use(loop, 40)
        clock.advance(2.0)
        result = loop.run_iteration(train_fn=train_model)
        assert result["retrain_triggered"]
        assert result["retrain"]["status"] == "completed"
        assert result["retrain"]["trigger"] == "sample_count"
        assert result["retrain"]["metrics"] == {"loss": 0.25, "accuracy": 0.9}
        challenger = result["challenger_deployed"]
        assert challenger is not None
        assert not Path(result["retrain"]["data_path"]).exists()  # cleaned up after success

        clock.advance(2.0)
        use(loop, 60, {Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.9})
        assert {loop.choose_model(f"user {user}").name for user in range(60)} == {"nayru-v1", challenger}
        clock.advance(2 * HOUR_S)
        result = loop.run_iteration(train_fn=train_model)
        assert result["ab_test_update"]["verdict"] == "promote"
        assert result["ab_comparison"]["theta"] > 0.05
        assert result["champion_promoted"] == challenger
        held_back_users_stay_with_the_old_model(loop, challenger)

        summary = loop.get_status_summary()
        print(f"Total usage: {summary['usage_stats']['total']}")
        print(f"Feedback rate: {summary['usage_stats']['feedback_rate'] * 100:.1f}%")
        print(f"Avg quality: {summary['usage_stats']['avg_quality_score']:.3f}")
        print(f"Total retrains: {summary['status']['total_retrains']}")
        print(f"Champion model: {summary['status']['champion_model']}")
        assert summary["status"]["total_retrains"] == 1
        assert summary["status"]["champion_model"] == challenger
        assert summary["status"]["challenger_model"] is None
        assert summary["status"]["running"] is False
        assert summary["status"]["last_retrain"] is not None


def held_back_users_stay_with_the_old_model(loop: ContinuousLearningLoop, promoted: str) -> None:
    use(loop, 120)
    choices = [loop.choose_model(f"user {user}") for user in range(120)]
    by_arm = {arm: {choice.name for choice in choices if choice.arm is arm} for arm in Arm}
    assert by_arm == {Arm.CHAMPION: {promoted}, Arm.CHALLENGER: set(), Arm.CONTROL: {"nayru-v1"}}
    held = sum(choice.arm is Arm.CONTROL for choice in choices)
    watch = loop.get_status_summary()["next"]
    assert f"({2 * held} of their requests so far)" in " ".join(watch["reasons"])
    newest = next(choice for choice in choices if choice.arm is Arm.CHAMPION)
    assert newest.path == loop.get_status_summary()["status"]["champion_path"]


def test_training_runs_in_the_callers_thread_even_inside_an_event_loop(tmp_path: Path) -> None:
    ran: list[int] = []

    def train_model(data_path: str) -> dict[str, Any]:
        ran.append(threading.get_ident())
        return train_into(tmp_path)(data_path)  # type: ignore[no-any-return]

    async def main() -> dict[str, Any]:
        with ContinuousLearningLoop(config(tmp_path)) as loop:
            use(loop, 15)
            return loop.trigger(train_model, why="because")

    result = asyncio.run(main())
    assert ran == [threading.get_ident()]
    assert result["retrain"]["status"] == "completed"
    assert result["retrain"]["trigger"] == "manual"


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "not an object"),
        ({}, "empty result"),
        ({"loss": 1.0}, "no model_path"),
        ({"model_path": "/nowhere/at/all"}, "does not exist"),
        (RuntimeError("CUDA out of memory"), "CUDA out of memory"),
    ],
)
def test_a_training_that_fails_says_why_and_is_tried_again_later(tmp_path: Path, returned: Any, reason: str) -> None:
    def train_model(data_path: str) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    with ContinuousLearningLoop(config(tmp_path)) as loop:
        use(loop, 40)
        result = loop.run_iteration(train_fn=train_model)
        assert result["retrain"]["status"] == "failed"
        assert reason in result["retrain"]["reason"]
        assert Path(result["retrain"]["data_path"]).exists()  # kept after a failure
        assert loop.run_iteration(train_fn=train_model)["retrain_triggered"] is False  # backs off
        summary = loop.get_status_summary()["status"]
        assert summary["total_retrains"] == 0
        assert reason in summary["errors"][0]


def test_what_a_training_raised_is_told_to_its_caller_and_written_down_beside_its_data_only(tmp_path: Path) -> None:
    def train_model(data_path: str) -> Any:
        raise ValueError("a sample: SECRET")

    with ContinuousLearningLoop(config(tmp_path)) as loop:
        use(loop, 40)
        result = loop.run_iteration(train_fn=train_model)
        assert "SECRET" in result["retrain"]["reason"]
    written = {path.name for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()}
    assert written == {"failure.txt", "result.json"}
    assert any(b"train_fn raised ValueError" in path.read_bytes() for path in tmp_path.rglob("*.db*"))


def test_no_train_prepares_data_and_changes_nothing(tmp_path: Path) -> None:
    with ContinuousLearningLoop(config(tmp_path)) as loop:
        use(loop, 40)
        result = loop.trigger(no_train=True)
        assert result["retrain"]["status"] == "data_prepared"
        assert len(Path(result["retrain"]["data_path"]).read_text().splitlines()) == result["retrain"]["samples"]
        assert loop.run_iteration(train_into(tmp_path))["retrain"]["status"] == "completed"


def test_without_ab_testing_a_new_model_goes_straight_to_production(tmp_path: Path) -> None:
    with ContinuousLearningLoop(config(tmp_path, enable_ab_testing=False)) as loop:
        use(loop, 40)
        result = loop.run_iteration(train_into(tmp_path))
        assert result["champion_promoted"] is not None
        assert loop.choose_model().name == result["champion_promoted"]
        assert "A/B testing is off" in " ".join(entry["why"] for entry in loop.history())


def test_a_retrain_that_goes_on_later_still_says_which_it_is(tmp_path: Path) -> None:
    with ContinuousLearningLoop(config(tmp_path)) as loop:
        use(loop, 40)
        loop.command("pause")
        begun = loop.trigger(train_into(tmp_path))["retrain"]
        assert begun["status"] == "prepared"  # the order was obeyed; what follows from it waits
        loop.command("resume")
        done = loop.run_iteration(train_into(tmp_path))["retrain"]
        assert done["status"] == "completed"
        assert {key: done[key] for key in ("run_id", "trigger", "samples", "data_path")} == {
            key: begun[key] for key in ("run_id", "trigger", "samples", "data_path")
        }


def log_by_another_name(loop: ContinuousLearningLoop, n: int) -> None:
    for index in range(n):
        loop.log_usage(
            f"q {index}", f"r {index * 31}", "my-own-name", latency_ms=20.0, quality_score=0.9, user=f"u{index}"
        )


def test_the_champions_speed_is_known_whatever_the_application_calls_it(tmp_path: Path) -> None:
    with ContinuousLearningLoop(config(tmp_path, champion_name="champion")) as loop:
        log_by_another_name(loop, 80)
        assert loop.run_iteration(train_into(tmp_path))["challenger_deployed"] is not None
        assert loop.get_status_summary()["ab_test"]["slow_threshold_s"] == pytest.approx(0.020, rel=0.1)


def test_a_promotion_is_watched_to_the_end_whatever_the_application_calls_its_model(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = config(tmp_path, champion_name="champion", enable_ab_testing=False)
    with ContinuousLearningLoop(settings, clock=clock) as loop:
        log_by_another_name(loop, 80)
        clock.advance(2.0)
        assert loop.run_iteration(train_into(tmp_path))["champion_promoted"] is not None
        clock.advance(60.0)
        log_by_another_name(loop, 40)
        clock.advance(25 * HOUR_S)
        assert loop.run_iteration(train_into(tmp_path))["events"][0] == "watch_finished"


def test_run_loop_stops_after_its_iterations_and_when_told(tmp_path: Path) -> None:
    with ContinuousLearningLoop(config(tmp_path, check_interval_seconds=0.01)) as loop:
        assert loop.run_loop(train_fn=None, max_iterations=2) == 2
        ran: list[int] = []
        thread = threading.Thread(target=lambda: ran.append(loop.run_loop()))
        thread.start()
        while not loop.get_status_summary()["status"]["running"] and thread.is_alive():
            time.sleep(0.01)
        loop.stop()
        thread.join(timeout=120)
        assert not thread.is_alive()
        assert ran[0] >= 1


def test_the_quick_starts_config_json_works_as_it_stands() -> None:
    data = json.loads("""
    {
      "check_interval_seconds": 3600,
      "trigger_config": {"min_new_samples": 1000, "schedule_interval_hours": 168},
      "generator_config": {"min_quality_score": 0.7, "min_user_feedback": 1},
      "ab_test_config": {"initial_challenger_traffic": 0.1, "promotion_threshold": 0.05}
    }
    """)
    assert parse_as(LoopConfig, data) == LoopConfig(generator_config=DataGeneratorConfig(min_user_feedback=1))


def test_the_rehearsal_buffer_is_really_mixed_in(tmp_path: Path, usage: UsageLogger) -> None:
    old = {"messages": [{"role": "user", "content": "old question"}, {"role": "assistant", "content": "old answer"}]}
    buffer = tmp_path / "rehearsal_buffer.jsonl"
    buffer.write_text(json.dumps(old) + "\n")
    for index in range(30):
        usage.log(f"question {index}", f"answer number {index * 17}", "m", quality_score=0.9, user=f"u{index}")
    settings = DataGeneratorConfig(include_existing_data=True, existing_data_path=str(buffer))
    manifest = TrainingDataGenerator(usage, settings, output_dir=tmp_path / "out").generate()
    assert manifest["rehearsal_samples"] == 1
    assert "old answer" in Path(manifest["data_path"]).read_text()


def test_many_threads_and_two_processes_lose_nothing(tmp_path: Path, usage: UsageLogger) -> None:
    code = f"""
from proxy import UsageLogger
with UsageLogger({str(usage.db_path)!r}) as usage:
    for index in range(25):
        assert usage.record_feedback(usage.log(f"other {{index}}", "r", "m"), 1)
"""
    usage.log("first", "r", "m")
    other = subprocess.Popen([sys.executable, "-c", code])
    threads = [threading.Thread(target=lambda: [usage.log("q", "r", "m") for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(timeout=300) == 0
    statistics = usage.get_statistics()
    assert statistics["total"] == 1 + 25 + 40
    assert statistics["positive"] == 25
