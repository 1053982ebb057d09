"""The quick start's own code and commands, with the import line changed and nothing else.

What a block takes for granted (a model, a trainer, how to load and save) is given to it in its namespace.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import (
    ContinuousLearningLoop,
    DataGeneratorConfig,
    LoopConfig,
    TrainingDataGenerator,
    TriggerConfig,
    UsageLogger,
)
from proxy.cli.app import app
from tests.harness.tables import sqlite_with_tables

LOG_SOME_USAGE = """
from afs.continuous import UsageLogger

logger = UsageLogger("~/.context/training/continuous/usage.db")

# Log each model call
record_id = logger.log(
    query="What is 65816 assembly?",
    response="65816 is the CPU used in the SNES...",
    model="nayru-v1",
    quality_score=0.85
)

# Record user feedback
logger.record_feedback(record_id, feedback=1)  # 1=good, -1=bad
"""
INTEGRATE = """
from afs.continuous import ContinuousLearningLoop, LoopConfig

# Initialize once at startup
loop = ContinuousLearningLoop(LoopConfig())

# In your inference handler
def handle_query(query: str) -> str:
    start_time = time.time()

    # Your model inference
    response = model.generate(query)

    # Log usage
    latency_ms = (time.time() - start_time) * 1000
    record_id = loop.log_usage(
        query=query,
        response=response,
        model="nayru-v1",
        latency_ms=latency_ms,
        quality_score=compute_quality(response)
    )

    return response, record_id

# When user gives feedback
def handle_feedback(record_id: str, is_positive: bool):
    loop.record_feedback(record_id, feedback=1 if is_positive else -1)
"""
TRAIN = """
def train_model(data_path):
    # 1. Load data
    dataset = load_jsonl(data_path)

    # 2. Train with LoRA
    trainer = Trainer(model, dataset)
    metrics = trainer.train()

    # 3. Save model
    model_path = save_model()

    # 4. Return metrics and path
    return {
        "loss": metrics["loss"],
        "accuracy": metrics["accuracy"],
        "model_path": model_path
    }
"""
RUN_AS_DAEMON = "loop.run_loop(train_fn=train_model)"
CHECK_MANUALLY = """
result = loop.run_iteration(train_fn=train_model)
if result["retrain_triggered"]:
    print(f"Retrained! Status: {result['retrain']['status']}")
"""
PRINT_STATS = """
summary = loop.get_status_summary()

print(f"Total usage: {summary['usage_stats']['total']}")
print(f"Feedback rate: {summary['usage_stats']['feedback_rate']*100:.1f}%")
print(f"Avg quality: {summary['usage_stats']['avg_quality_score']:.3f}")
print(f"Total retrains: {summary['status']['total_retrains']}")
print(f"Champion model: {summary['status']['champion_model']}")
"""
CONFIG = """
{
  "check_interval_seconds": 3600,
  "trigger_config": {
    "min_new_samples": 1000,
    "schedule_interval_hours": 168
  },
  "generator_config": {
    "min_quality_score": 0.7,
    "min_user_feedback": 1
  },
  "ab_test_config": {
    "initial_challenger_traffic": 0.1,
    "promotion_threshold": 0.05
  }
}
"""
REHEARSAL = """
DataGeneratorConfig(
    include_existing_data=True,
    existing_data_path="rehearsal_buffer.jsonl"
)
"""


class Trainer:
    """As the quick start calls one."""

    def __init__(self, model: Any, dataset: list[Any]) -> None:
        self.dataset = dataset

    def train(self) -> dict[str, float]:
        return {"loss": 0.25, "accuracy": 0.9, "seen": len(self.dataset)}


def run(block: str, names: dict[str, Any]) -> str:
    """Run a block as it stands; what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(block.replace("from afs.continuous import", "from proxy import"), names)
    return out.getvalue()


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The namespace of an application that has followed the quick start up to its own training function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (tmp_path / "ratchet-data", tmp_path / ".context/training/continuous"):
        place.mkdir(parents=True)
    sqlite_with_tables(tmp_path / "ratchet-data/ratchet.db")
    sqlite_with_tables(tmp_path / ".context/training/continuous/usage.db")

    def save_model() -> str:
        path = tmp_path / "weights"
        path.write_text("weights")
        return str(path)

    spoken = random.Random(7)
    found = {
        "time": time,
        "model": SimpleNamespace(generate=lambda query: f"{query} It is {spoken.getrandbits(40)}, as everybody knows."),
        "compute_quality": lambda response: 0.9,
        "load_jsonl": lambda path: [json.loads(line) for line in Path(path).read_text().splitlines()],
        "Trainer": Trainer,
        "save_model": save_model,
    }
    yield found
    for name in ("loop", "logger"):
        if name in found:
            found[name].close()  # type: ignore[attr-defined]


def used(names: dict[str, Any], calls: int) -> None:
    """An application answers so many questions, and every user is pleased."""
    for number in range(calls):
        _, record_id = names["handle_query"](f"What is question {number * number}?")
        names["handle_feedback"](record_id, True)


def test_log_some_usage(names: dict[str, Any], tmp_path: Path) -> None:
    run(LOG_SOME_USAGE, names)
    (record,) = names["logger"].get_records()
    assert (record["model"], record["quality_score"], record["feedback"]) == ("nayru-v1", 0.85, 1.0)
    assert (tmp_path / ".context/training/continuous/usage.db").is_file()


def test_an_application_that_logs_and_votes(names: dict[str, Any]) -> None:
    run(INTEGRATE, names)
    response, record_id = names["handle_query"]("What is 65816 assembly?")
    names["handle_feedback"](record_id, False)
    (record,) = names["loop"].logger.get_records()
    assert (record["response"], record["feedback"], record["record_id"]) == (response, -1.0, record_id)
    assert record["latency_ms"] > 0.0


def test_the_training_function_and_both_ways_to_run_it(
    names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(INTEGRATE, names)
    run(TRAIN, names)
    assert run(CHECK_MANUALLY, names) == "", "nothing is due"
    used(names, 120)
    names["loop"].close()
    names["loop"] = ContinuousLearningLoop(LoopConfig(trigger_config=TriggerConfig(min_new_samples=100)))
    assert run(CHECK_MANUALLY, names) == "Retrained! Status: completed\n"
    assert names["result"]["retrain"]["metrics"] == {"loss": 0.25, "accuracy": 0.9}
    assert names["result"]["retrain"]["model_path"] == str(tmp_path / "weights")
    assert "choose_model" in names["result"]["hint"], "this application asks nobody which model to use"
    daemon = threading.Thread(target=run, args=(RUN_AS_DAEMON, names))
    daemon.start()
    while names["loop"].get_status_summary()["status"]["last_check"] is None and daemon.is_alive():
        time.sleep(0.01)
    names["loop"].stop()
    daemon.join(timeout=120)
    assert not daemon.is_alive()


def test_the_training_data_is_what_was_promised(names: dict[str, Any], tmp_path: Path) -> None:
    """Good answers that people liked, none twice."""
    with UsageLogger("usage.db") as logger:
        kept = logger.log("What is kept?", "This is kept.", "m", quality_score=0.9, user="ann")
        bad = logger.log("What is bad?", "This is bad.", "m", quality_score=0.6, user="bob")
        disliked = logger.log("What is disliked?", "This is disliked.", "m", quality_score=0.9, user="cy")
        again = logger.log("What is kept?", "This is kept.", "m", quality_score=0.9, user="dan")
        logger.log("What has no vote?", "This has none.", "m", quality_score=0.9, user="eve")
        for record_id, feedback in ((kept, 1), (bad, 1), (disliked, -1), (again, 1)):
            assert logger.record_feedback(record_id, feedback)
        settings = DataGeneratorConfig(min_quality_score=0.7, min_user_feedback=1, holdout_share=0.0)
        manifest = TrainingDataGenerator(logger, settings, output_dir=tmp_path / "out").generate()
    (line,) = Path(manifest["data_path"]).read_text().splitlines()
    assert json.loads(line)["messages"][-1]["content"] == "This is kept."
    assert {reason: n for reason, n in manifest["dropped"].items() if n} == {
        "low_quality": 1, "negative_feedback": 1, "exact_duplicate": 1, "no_feedback": 1,
    }  # fmt: skip


def test_the_statistics_can_be_printed(names: dict[str, Any]) -> None:
    run(INTEGRATE, names)
    used(names, 4)
    assert run(PRINT_STATS, names).splitlines() == [
        "Total usage: 4",
        "Feedback rate: 100.0%",
        "Avg quality: 0.900",
        "Total retrains: 0",
        "Champion model: champion",
    ]


def test_the_commands(names: dict[str, Any], tmp_path: Path) -> None:
    """`ratchet loop` where the quick start has its script: as daemon, --status, --config, --trigger --no-train."""
    run(INTEGRATE, names)
    used(names, 120)
    names["loop"].close()
    Path("config.json").write_text(CONFIG)
    said = {}
    for flags in ("--max-iterations 1", "--status", "--config config.json --max-iterations 1",
                  "--config config.json --trigger --no-train"):  # fmt: skip
        result = CliRunner().invoke(app, ["loop", *flags.split()], env={"COLUMNS": "200"})
        assert result.exit_code == 0, (flags, result.output)
        said[flags] = result.output
    assert "nothing to do" in said["--max-iterations 1"]
    assert "120 calls, 100 % with feedback" in said["--status"]
    assert "trigger was taken" in said["--config config.json --trigger --no-train"]
    assert "data prepared" in said["--config config.json --trigger --no-train"]


def test_the_rehearsal_buffers_settings_are_taken_as_they_stand(names: dict[str, Any]) -> None:
    run(f"settings = {REHEARSAL.strip()}", names | {"DataGeneratorConfig": DataGeneratorConfig})
    assert LoopConfig(enable_ab_testing=False).enable_ab_testing is False


def test_a_call_takes_less_than_a_kilobyte(tmp_path: Path) -> None:
    """Of a question and an answer of 1 KB together, in words that do not repeat more than a language's do."""
    words = [
        f"{random.Random(n).choice('bcdfgklmnprst')}{random.Random(n * 7).choice('aeiou')}{n:x}" for n in range(900)
    ]
    spoken = random.Random(3)
    path = tmp_path / "usage.db"
    sqlite_with_tables(path)
    sizes = []
    for _ in range(2):
        with UsageLogger(path) as logger:
            for _ in range(1500):
                question, answer = (" ".join(spoken.choices(words, k=k)) for k in (30, 170))
                logger.log(question, answer, "m", latency_ms=5.0, quality_score=0.9, user="ann")
        sizes.append(path.stat().st_size)
    assert (sizes[1] - sizes[0]) / 1500 < 1000
