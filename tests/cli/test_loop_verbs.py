"""`ratchet loop`: the quick start's command over a usage database, with a real training function."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy import ContinuousLearningLoop, LoopConfig, TriggerConfig, UsageLogger
from proxy.cli.app import app

QUICK_START = {
    "check_interval_seconds": 3600,
    "trigger_config": {"min_new_samples": 1000, "schedule_interval_hours": 168},
    "generator_config": {"min_quality_score": 0.7, "min_user_feedback": 1},
    "ab_test_config": {"initial_challenger_traffic": 0.1, "promotion_threshold": 0.05},
}
TRAINER = """
from pathlib import Path

def train_model(data_path):
    model = Path(data_path).parent / "model.txt"
    model.write_text(str(len(Path(data_path).read_text().splitlines())))
    return {"loss": 0.1, "model_path": str(model)}
"""
WORDS = ["tides", "glaciers", "violins", "comets", "bridges", "saffron", "lighthouses", "fjords", "meadows", "anchors"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 120 liked answers in its usage database."""
    directory = tmp_path_factory.mktemp("logged") / "ratchet-data"
    with UsageLogger(directory / "ratchet.db") as usage:
        for n in range(120):
            topic = f"{WORDS[n % 10]} and {WORDS[n // 10 % 10]} number {n * n}"
            record_id = usage.log(
                f"What about {topic}?", f"All of {topic}.", "champion", quality_score=0.9, user=f"u{n}"
            )
            assert usage.record_feedback(record_id, feedback=1)
    return directory


@pytest.fixture
def place(logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the quick start's config.json and a usage database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(QUICK_START))
    shutil.copytree(logged, tmp_path / "ratchet-data")
    return tmp_path


def ratchet(*args: str) -> Result:
    return CliRunner().invoke(app, ["loop", *args], env={"COLUMNS": "200"})


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_status_shows_the_usage(place: Path) -> None:
    summary = answer(ratchet("--config", "config.json", "--status", "--json"))
    assert (summary["usage_stats"]["total"], summary["usage_stats"]["feedback_rate"]) == (120, 1.0)
    assert ratchet("--config", "config.json", "--max-iterations", "1").exit_code == 0
    text = ratchet("--config", "config.json", "--status").output
    database = f"database   {place / 'ratchet-data' / 'ratchet.db'}"
    for said in ("idle", "champion", database, "120 calls", "100 % with feedback", "new samples"):
        assert said in text, text


def test_trigger_without_training_prepares_the_data(place: Path) -> None:
    result = answer(ratchet("--config", "config.json", "--trigger", "--no-train", "--json"))
    assert result["retrain"]["status"] == "data_prepared"
    lines = Path(result["retrain"]["data_path"]).read_text().splitlines()
    assert len(lines) == result["retrain"]["samples"] > 100


def test_what_a_retrain_came_to_is_said_in_one_line(place: Path) -> None:
    assert (
        "retrain (command of a person): data prepared, /"
        in ratchet("--config", "config.json", "--trigger", "--no-train").output
    )
    strict = QUICK_START | {"trigger_config": {"min_usable_samples": 1000}}
    (place / "config.json").write_text(json.dumps(strict))
    result = ratchet("--config", "config.json", "--trigger", "--no-train")
    assert (result.exit_code, "too few samples, " in result.output) == (1, True)
    assert "usable samples, 1,000 needed" in result.output


def test_trigger_says_whether_its_command_was_taken(place: Path) -> None:
    """Taken, waiting for the process that runs the loop, or refused with the reason."""
    order = ("trigger", "--config", "config.json", "--no-train")
    assert "trigger was taken (command 1): " in ratchet(*order).output
    asked, done = threading.Event(), threading.Event()

    def train(data_path: str) -> dict[str, Any]:
        asked.set()
        assert done.wait(300)
        return {"model_path": str(place / "config.json")}

    settings = LoopConfig(db_path="ratchet-data/ratchet.db", output_dir="ratchet-data/training",
                          trigger_config=TriggerConfig(min_new_samples=100))  # fmt: skip
    with ContinuousLearningLoop(settings) as loop:
        other = threading.Thread(target=loop.run_iteration, args=(train,))
        other.start()
        assert asked.wait(300)
        queued = ratchet(*order, "--wait", "0")
        assert (queued.exit_code, "trigger is queued as command 2: another process" in queued.output) == (0, True)
        done.set()
        other.join()
        loop.run_iteration()
        assert loop.command_state(2)["state"] == "refused"
    refused = ratchet(*order)
    assert (refused.exit_code, "trigger was refused (command 3): " in refused.output) == (1, True), refused.output
    assert "UTC  verdict of the test so far: Keep testing (No request has come yet" in refused.output


def test_a_process_killed_in_the_training_is_followed_by_one_that_ends_it(place: Path) -> None:
    dying = TRAINER.replace("def train_model(data_path):", "import os, signal\n\ndef train_model(data_path):")
    dying = dying.replace("    model =", "    os.kill(os.getpid(), signal.SIGKILL)\n    model =")
    (place / "my_training.py").write_text(dying)
    trainer = {"kind": "callable", "callable": "my_training:train_model"}
    settings = QUICK_START | {"trainer": trainer, "trigger_config": {"min_new_samples": 100}}
    (place / "config.json").write_text(json.dumps(settings))
    environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{Path(__file__).parents[2]}"}
    command = [sys.executable, "-m", "proxy", "loop", "run", "--config", "config.json", "--max-iterations", "1"]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    (place / "my_training.py").write_text(TRAINER)
    again = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "retrain (new samples): completed, model-" in again.stdout
    assert answer(ratchet("status", "--config", "config.json", "--json"))["status"]["total_retrains"] == 1


def test_trigger_trains_with_the_function_that_the_configuration_names(place: Path) -> None:
    (place / "my_training.py").write_text(TRAINER)
    trainer = {"kind": "callable", "callable": "my_training:train_model"}
    (place / "config.json").write_text(json.dumps(QUICK_START | {"trainer": trainer}))
    result = answer(ratchet("trigger", "--config", "config.json", "--json"))
    assert result["retrain"]["status"] == "completed", result
    assert int(Path(result["retrain"]["model_path"]).read_text()) == result["retrain"]["samples"]


def test_run_stops_after_so_many_checks_and_says_what_was_due(place: Path) -> None:
    result = ratchet("--config", "config.json", "--max-iterations", "1")
    assert (result.exit_code, "nothing to do" in result.output) == (0, True), result.output


def test_the_librarys_own_keys_are_read_from_the_same_file(place: Path) -> None:
    (place / "ratchet-data").rename(place / "elsewhere")
    (place / "config.json").write_text(json.dumps(QUICK_START | {"db_path": "elsewhere/ratchet.db"}))
    assert answer(ratchet("status", "--config", "config.json", "--json"))["usage_stats"]["total"] == 120


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"kind": "callable", "callable": "no_such_module:train"}, "cannot be imported"),
        ({"kind": "command", "command": ["train"]}, "needs `ratchet serve`"),
    ],
)
def test_a_trainer_that_can_not_be_called_is_a_configuration_error(
    place: Path, trainer: dict[str, Any], message: str
) -> None:
    (place / "config.json").write_text(json.dumps(QUICK_START | {"trainer": trainer}))
    result = ratchet("--config", "config.json", "--trigger")
    assert (result.exit_code, message in result.output) == (3, True), result.output


def test_beside_a_running_server_the_loop_is_not_started_twice(place: Path) -> None:
    (place / "ratchet-data" / "run").mkdir()
    addresses = place / "ratchet-data" / "run" / "addresses.json"
    addresses.write_text(json.dumps({"admin": "http://127.0.0.1:1", "pid": os.getpid()}))
    result = ratchet("--config", "config.json")
    assert (result.exit_code, "its loop with it" in result.output) == (1, True)
    addresses.write_text(json.dumps({"admin": "http://127.0.0.1:1", "pid": 2**22 + 1}))
    assert ratchet("--config", "config.json", "--max-iterations", "1").exit_code == 0


def test_nothing_logged_yet_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = ratchet("--status")
    assert (result.exit_code, "no usage database" in result.output) == (4, True)
    begun = ratchet("--max-iterations", "1")
    database = tmp_path / "ratchet-data" / "ratchet.db"
    assert begun.exit_code == 0
    assert begun.stderr.splitlines() == [
        f"checks the usage database {database}",
        f'nothing is logged there yet: log with UsageLogger("{database}"), or name another database (--db)',
        "trainer.callable is not set: a retrain prepares the data and trains nothing",
    ]
    assert "nothing to do" in begun.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_cleanly(place: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "proxy", "loop", "--config", "config.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "nothing to do" in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=120) == 0
