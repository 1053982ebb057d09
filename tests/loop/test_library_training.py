"""What a training function may do and return in the library: whatever it is, the call ends, and says what was wrong."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy import ABTestConfig, ContinuousLearningLoop, DataGeneratorConfig, LoopConfig, TriggerConfig
from proxy.clock import ManualClock
from proxy.loop.library.usage_questions import find_records
from proxy.store.tables.values import RecordFilter
from tests.harness.tables import sqlite_with_tables

MINUTE_S = 60.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def loop(tmp_path: Path, clock: ManualClock) -> Iterator[ContinuousLearningLoop]:
    """Six scored records, which are enough."""
    sqlite_with_tables(tmp_path / "usage.db")
    settings = LoopConfig(
        db_path=str(tmp_path / "usage.db"),
        output_dir=str(tmp_path / "training"),
        models_dir=str(tmp_path / "models"),
        trigger_config=TriggerConfig(min_new_samples=5, min_usable_samples=2),
        generator_config=DataGeneratorConfig(near_duplicate_threshold=1.0),
        ab_test_config=ABTestConfig(initial_challenger_traffic=0.5),
    )
    with ContinuousLearningLoop(settings, clock=clock) as loop:
        for index in range(6):
            loop.log_usage(f"question {index}", f"answer {index * 17}", "m", quality_score=0.9, user=f"user {index}")
        clock.advance(2.0)
        yield loop


def model_in(root: Path) -> str:
    path = root / "models" / "model"
    path.write_text("weights")
    return str(path)


@pytest.mark.parametrize(
    ("metrics", "kept"),
    [
        ({"loss_by_epoch": {0: 0.9, 1: 0.5}}, {"loss_by_epoch": {"0": 0.9, "1": 0.5}}),
        ({"loss": float("nan")}, {"loss": "NaN"}),
        ({"loss": 0.1}, {"loss": 0.1}),
    ],
)
def test_metrics_are_kept_and_trained_once(
    tmp_path: Path, loop: ContinuousLearningLoop, clock: ManualClock, metrics: Any, kept: Any
) -> None:
    trained: list[str] = []

    def train(data_path: str) -> dict[str, Any]:
        trained.append(data_path)
        return {"model_path": model_in(tmp_path), **metrics}

    result = loop.run_iteration(train)
    assert result["retrain"]["status"] == "completed"
    assert result["retrain"]["metrics"] == kept
    for _ in range(3):
        clock.advance(10 * MINUTE_S)
        loop.run_iteration(train)
    assert len(trained) == 1


def test_metrics_that_are_no_json_fail_the_run_at_once(
    tmp_path: Path, loop: ContinuousLearningLoop, clock: ManualClock
) -> None:
    trained: list[str] = []

    def train(data_path: str) -> dict[str, Any]:
        trained.append(data_path)
        return {"model_path": model_in(tmp_path), "curves": {"loss": object()}}

    result = loop.run_iteration(train)["retrain"]
    assert result["status"] == "failed"
    assert "curves.loss is of type object" in result["reason"]
    for _ in range(3):
        clock.advance(10 * MINUTE_S)
        loop.run_iteration(train)
    assert len(trained) == 1, "it backs off like any failure"


@pytest.mark.parametrize("way", ["as it is", "link", "relative", "inside", "result", "folder"])
def test_a_model_path_that_we_clean_up_is_refused(
    tmp_path: Path, loop: ContinuousLearningLoop, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def train(data_path: str) -> dict[str, Any]:
        link = tmp_path / "model"
        link.symlink_to(data_path)
        run = Path(data_path).parent
        (run / "train.log").touch()
        paths = {"link": str(link), "relative": os.path.relpath(data_path), "folder": str(run)}
        paths |= {"result": str(run / "train.log"), "inside": f"{run}/../{run.name}/data.jsonl"}
        return {"model_path": paths.get(way, data_path)}

    monkeypatch.chdir(tmp_path)
    result = loop.run_iteration(train)["retrain"]
    assert result["status"] == "failed"
    assert ("writes and removes" if way == "result" else "removed after the training") in result["reason"]
    assert Path(result["data_path"]).exists()


@pytest.mark.parametrize("name", ["model.bin", "."])
def test_a_model_beside_the_data_is_kept(loop: ContinuousLearningLoop, name: str) -> None:
    def train(data_path: str) -> dict[str, Any]:
        (Path(data_path).parent / "model.bin").write_text("weights")
        return {"model_path": Path(data_path).parent / name}

    result = loop.run_iteration(train)["retrain"]
    assert result["status"] == "completed", result["reason"]
    assert Path(result["model_path"]).exists()


def test_a_path_is_relative_to_where_the_training_began_or_went(
    tmp_path: Path, loop: ContinuousLearningLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def train(data_path: str) -> dict[str, Any]:
        model_in(tmp_path)
        os.chdir("models")
        return {"model_path": "model"}

    assert loop.run_iteration(train)["retrain"]["model_path"] == str(tmp_path / "models/model")


class Asynchronous:
    """An object whose call is a coroutine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def __call__(self, data_path: str) -> dict[str, Any]:
        return {"model_path": model_in(self.root)}


async def train_into(root: Path, data_path: str) -> dict[str, Any]:
    return {"model_path": model_in(root)}


@pytest.mark.parametrize("kind", ["object", "partial"])
def test_a_training_function_may_be_async(tmp_path: Path, loop: ContinuousLearningLoop, kind: str) -> None:
    function = Asynchronous(tmp_path) if kind == "object" else functools.partial(train_into, tmp_path)
    assert loop.run_iteration(function)["retrain"]["status"] == "completed"


async def test_an_async_training_function_runs_where_an_event_loop_runs(
    tmp_path: Path, loop: ContinuousLearningLoop
) -> None:
    assert loop.run_iteration(Asynchronous(tmp_path))["retrain"]["status"] == "completed"


WAITS: dict[str, Callable[[ContinuousLearningLoop], Any]] = {
    "run_iteration": lambda loop: loop.run_iteration(),
    "run_loop": lambda loop: loop.run_loop(max_iterations=1),
    "trigger": lambda loop: loop.trigger(),
    "close": lambda loop: loop.close(),
}


def caught(call: Callable[[], Any]) -> str:
    with pytest.raises(RuntimeError) as error:
        call()
    return str(error.value)


def test_what_would_wait_for_train_fn_raises_inside_it(tmp_path: Path, loop: ContinuousLearningLoop) -> None:
    said: dict[str, str] = {}

    def train(data_path: str) -> dict[str, Any]:
        for name, method in WAITS.items():
            said[name] = caught(functools.partial(method, loop))
            thread = threading.Thread(
                target=lambda name=name, method=method: said.update({f"{name}, thread": caught(lambda: method(loop))})
            )
            thread.start()
            thread.join()
        said["log"] = caught(loop.logger.close)
        return {"model_path": model_in(tmp_path)}

    assert loop.run_iteration(train)["retrain"]["status"] == "completed"
    assert len(said) == 2 * len(WAITS) + 1
    assert all("train_fn" in text or "run_iteration was running" in text for text in said.values()), said
    assert loop.run_iteration()["retrain_triggered"] is False, "it goes on well afterwards"


def test_the_rest_works_inside_train_fn(tmp_path: Path, loop: ContinuousLearningLoop) -> None:
    def train(data_path: str) -> dict[str, Any]:
        record = loop.log_usage("from inside", "yes", loop.choose_model("ann").name)
        assert loop.record_feedback(record, 1)
        assert loop.get_status_summary()["usage_stats"]["total"] == 7
        assert loop.history()
        assert loop.command("share", {"share": 0.3}) > 0
        return {"model_path": model_in(tmp_path)}

    assert loop.run_iteration(train)["retrain"]["status"] == "completed"


def in_fork(work: Callable[[], None]) -> int:
    """The exit code of a forked process that does this."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_logs_and_is_refused_the_rest(tmp_path: Path, loop: ContinuousLearningLoop) -> None:
    def child() -> None:
        loop.log_usage("of the child", "yes", "m")
        for method in WAITS.values():
            assert "forked" in caught(functools.partial(method, loop))
        loop.logger.close()

    assert in_fork(child) == 0
    codes: list[int] = []

    def train(data_path: str) -> dict[str, Any]:
        codes.append(in_fork(child))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        return {"model_path": model_in(tmp_path)}

    assert loop.run_iteration(train)["retrain"]["status"] == "completed"
    assert codes == [0]
    assert loop.get_status_summary()["usage_stats"]["total"] == 8, "the parent goes on"


def test_a_fork_that_comes_back_from_train_fn_raises(tmp_path: Path, loop: ContinuousLearningLoop) -> None:
    parent, children = os.getpid(), []

    def train(data_path: str) -> dict[str, Any]:
        if (child := os.fork()) != 0:
            children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return {"model_path": model_in(tmp_path)}

    try:
        result = loop.run_iteration(train)
    except RuntimeError as error:
        os._exit(3 if "forked" in str(error) and os.getpid() != parent else 4)
    if os.getpid() != parent:
        os._exit(5)
    assert result["retrain"]["status"] == "completed"
    assert children == [3]


def test_an_interrupted_training_ends_the_iteration(
    tmp_path: Path, loop: ContinuousLearningLoop, clock: ManualClock
) -> None:
    def train(data_path: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_iteration(train)
    clock.advance(48 * 60 * MINUTE_S)
    result = loop.run_iteration(lambda data_path: {"model_path": model_in(tmp_path)})
    assert result["retrain"]["status"] == "completed"


def test_a_call_under_way_is_done_before_the_log_is_closed(loop: ContinuousLearningLoop) -> None:
    """Eight threads log as fast as they can while a ninth closes: each call is stored, or raises; none hangs."""
    stored: list[str] = []
    begun = threading.Barrier(9)

    def log() -> None:
        begun.wait()
        for index in range(5):
            stored.append(loop.log_usage(f"{index}", "r", "m"))

    threads = [threading.Thread(target=log) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait()
    loop.logger.close()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert loop.get_status_summary()["usage_stats"]["total"] == 6 + len(stored) == 6 + 8 * 5


def test_who_never_asks_which_model_to_use_is_told_as_soon_as_a_challenger_waits(
    tmp_path: Path, loop: ContinuousLearningLoop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The seed's own code: log, vote, iterate. The test would wait for its users for ever."""
    assert loop.get_status_summary()["status"]["hint"] is None
    result = loop.run_iteration(lambda _: {"model_path": model_in(tmp_path)})
    waits = result["challenger_deployed"]
    assert waits is not None
    assert f"the challenger {waits} waits for its users" in result["hint"]
    assert "choice = loop.choose_model(user)" in result["hint"]
    assert "model=choice.name" in result["hint"]
    assert loop.get_status_summary()["status"]["hint"] == result["hint"]
    clock.advance(3 * 60 * MINUTE_S)
    assert "for 3.0 hours" in loop.run_iteration()["hint"]
    said = [record for record in caplog.records if record.name.startswith("proxy.loop.library")]
    assert [record.levelname for record in said] == ["WARNING"], "once"
    assert said[0].getMessage() == result["hint"]
    loop.log_usage("q", "r", waits)
    assert loop.run_iteration()["hint"] is None
    assert loop.get_status_summary()["status"]["hint"] is None


def test_who_asks_which_model_to_use_is_told_only_when_nothing_comes_of_it(
    tmp_path: Path, loop: ContinuousLearningLoop, clock: ManualClock
) -> None:
    """Another process may be the one that chooses."""
    with ContinuousLearningLoop(loop.config, clock=clock) as other:
        other.choose_model("ann")
    result = loop.run_iteration(lambda _: {"model_path": model_in(tmp_path)})
    assert result["challenger_deployed"] is not None
    assert result["hint"] is None
    clock.advance(16 * MINUTE_S)
    assert "choose_model" in loop.run_iteration()["hint"]


def test_a_call_counts_for_the_model_that_it_names(tmp_path: Path, loop: ContinuousLearningLoop) -> None:
    challenger = loop.run_iteration(lambda _: {"model_path": model_in(tmp_path)})["challenger_deployed"]
    for name in (challenger, str(tmp_path / "models/model"), loop.config.champion_name, "another"):
        loop.log_usage("q", "r", name)
    arms = {record["model"]: record["arm"] for record in loop.logger.get_records(4)}
    assert arms == {challenger: "challenger", loop.config.champion_name: "champion", "another": "champion"}
    assert [record["arm"] for record in loop.logger.get_records(4)].count("challenger") == 2


@contextmanager
def nothing_stored(loop: ContinuousLearningLoop) -> Iterator[None]:
    """As while the store is away."""
    background, usage = loop.logger.background, loop.logger.background.opened()[1]
    background.run(lambda usage: usage.one_commit.acquire())
    try:
        yield
    finally:
        background.opened()[0].call_soon_threadsafe(usage.one_commit.release)


def test_what_waited_through_a_change_of_the_split_proves_nothing(
    tmp_path: Path, loop: ContinuousLearningLoop, clock: ManualClock
) -> None:
    """Neither what was logged before, nor what a clock that was ahead has dated: both are training data."""
    challenger = loop.run_iteration(lambda _: {"model_path": model_in(tmp_path)})["challenger_deployed"]
    with nothing_stored(loop):
        loop.log_usage("early", "r", challenger)
        clock.advance(MINUTE_S)
        with ContinuousLearningLoop(loop.config, clock=clock) as other:
            other.command("share", {"share": 0.3})
            assert "share_changed" in other.run_iteration()["events"]
        loop.log_usage("late", "r", challenger)
        clock.jump(60 * MINUTE_S)
        loop.log_usage("ahead", "r", challenger)
        clock.jump(-60 * MINUTE_S)
    assert [record["arm"] for record in loop.logger.get_records(3)] == ["challenger"] * 3
    counted = loop.logger.background.run(lambda usage: find_records(usage, RecordFilter(experiment_id=1), 10))
    assert [record["query"] for record in counted] == ["late"]
