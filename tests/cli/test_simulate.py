"""`ratchet simulate`: other settings on stored traffic, answered by the functions that decide in earnest."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import ContinuousLearningLoop, LoopConfig, TriggerConfig, UsageLogger
from proxy.cli.app import app
from proxy.clock import ManualClock, SystemClock
from proxy.store.store import Store
from tests.harness.story import Story

SUBJECTS = (
    "tides",
    "glaciers",
    "violins",
    "comets",
    "bridges",
    "saffron",
    "lighthouses",
    "fjords",
    "meadows",
    "anchors",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days ago 150 good answers in three hours, then one look of a loop that wants 100: it prepared data."""
    root = tmp_path_factory.mktemp("simulate") / "data"
    clock = ManualClock(SystemClock().now() - 3 * 86_400)
    config = LoopConfig(
        db_path=str(root / "ratchet.db"),
        output_dir=str(root / "training"),
        models_dir=str(root / "models"),
        trigger_config=TriggerConfig(min_new_samples=100),
    )
    with ContinuousLearningLoop(config, clock=clock) as loop:
        for n in range(150):
            topic = f"{SUBJECTS[n % 10]} and {SUBJECTS[n // 10 % 10]} number {n * n}"
            loop.log_usage(f"What about {topic}?", f"All of {topic}.", "champion", quality_score=0.9, user=f"u{n}")
            clock.advance(72.0)
        assert loop.run_iteration()["retrain"]["status"] == "data_prepared"
    return root


def simulate(data: Path, *args: str) -> Any:
    result = CliRunner().invoke(app, ["simulate", "--data-dir", str(data), "--json", *args])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def setting(samples: int) -> tuple[str, str]:
    return "--set", f"trigger_config.min_new_samples={samples}"


def test_a_lower_bar_retrains_on_paper_with_the_samples_it_would_have_had(data: Path) -> None:
    document = simulate(data, *setting(110))
    [retrain] = document["retrains"]
    assert retrain["trigger"] == "sample_count"
    assert 110 <= retrain["new_quality_samples"] <= 150
    assert 100 <= retrain["kept"] <= retrain["new_quality_samples"]
    assert document["since"] < retrain["at"] <= document["since"] + 4 * 3600


def test_a_higher_bar_retrains_never_and_would_have_decided_otherwise(data: Path) -> None:
    document = simulate(data, *setting(5000), "--scan", "0")
    assert document["retrains"] == []
    assert "PrepareData" in [other["was"] for other in document["different"]]
    assert {other["would_be"] for other in document["different"]} == {"Hold"}


def test_the_settings_that_were_in_force_decide_as_they_did(data: Path) -> None:
    document = simulate(data, *setting(100), "--scan", "0")
    assert document["decisions"] > 0
    assert document["different"] == []


def test_a_schedule_comes_round(data: Path) -> None:
    document = simulate(data, *setting(5000), "--set", "trigger_config.schedule_interval_hours=25", "--scan", "0")
    assert [retrain["trigger"] for retrain in document["retrains"]] == ["schedule", "schedule"]


def test_for_people_it_is_a_table(data: Path) -> None:
    args = ["simulate", "--data-dir", str(data), *setting(5000)]
    text = CliRunner().invoke(app, args, env={"COLUMNS": "200"}).output
    assert all(said in text for said in ("0 retrains in", "Prepare training data → Wait")), text


def test_a_time_without_traffic_is_said(data: Path) -> None:
    text = CliRunner().invoke(app, ["simulate", "--data-dir", str(data), "--since", "1h"]).output
    assert "nothing is stored from that time on" in text


def test_what_was_logged_a_moment_ago_counts(tmp_path: Path) -> None:
    """A new installation: its first hour has not ended yet."""
    with UsageLogger(tmp_path / "data" / "ratchet.db", clock=ManualClock(SystemClock().now())) as usage:
        for n in range(110):
            usage.log(f"question {n} about {n * n}", f"answer {n} is {n * 31}", "m", quality_score=0.9, user=f"u{n}")
    [retrain] = simulate(tmp_path / "data", *setting(100), "--scan", "0")["retrains"]
    assert retrain["new_quality_samples"] == 110
    power = CliRunner().invoke(app, ["power", "--data-dir", str(tmp_path / "data"), "--vote-rate", "0.5", "--json"])
    traffic = json.loads(power.stdout)["traffic"]
    assert (traffic["requests_per_day"], traffic["users"], traffic["new_users_per_day"]) == (110, 110, 0)


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days ago a challenger was promoted after 18 minutes, the shortest time that the rules allowed, and was
    watched to the end."""
    root = tmp_path_factory.mktemp("tested") / "data"
    clock = ManualClock(SystemClock().now() - 2 * 86_400)

    async def play() -> None:
        root.mkdir()
        store = await Store.open(f"sqlite:///{root / 'ratchet.db'}", clock=clock)
        try:
            story = await Story(store, clock, root, better_by=0.25, min_duration_hours=0.3).play()
            await story.watch(minutes=10)
        finally:
            await store.close()

    asyncio.run(play())
    return root


def ab_test(hours: float, share: float = 0.5) -> tuple[str, ...]:
    """The rules of the story, but for these."""
    rules = {
        "initial_challenger_traffic": share,
        "latency_weight": 0.0,
        "min_duration_hours": hours,
        "watch_hours": 0.1,
    }
    return "--scan", "0", *(part for key, value in rules.items() for part in ("--set", f"ab_test_config.{key}={value}"))


def test_an_earlier_promotion_gets_its_date(tested: Path) -> None:
    [test] = simulate(tested, *ab_test(0.1))["experiments"]
    assert test["really"]["action"] == test["would_be"]["action"] == "BeginPromotion"
    assert test["really"]["at"] - test["would_be"]["at"] == pytest.approx(3600 * test["hours_earlier"])
    assert 0.05 < test["hours_earlier"] < 0.3
    assert test["would_be"]["reasons"]
    watch = test["watch"]
    assert watch["really"]["action"] == watch["would_be"]["action"] == "FinishWatch"
    assert abs(watch["hours_earlier"]) <= 1 / 60


def test_what_happened_stands_beside_what_would_have(tested: Path) -> None:
    def text(*args: str) -> str:
        command = ["simulate", "--data-dir", str(tested), *args]
        return " ".join(CliRunner().invoke(app, command, env={"COLUMNS": "250"}).output.split())

    same = text(*ab_test(0.3))
    assert "Decide for the challenger, at the same check" in same
    assert "after the promotion 10 % control" in same
    assert "Finish watching, at the same check" in same
    earlier = text(*ab_test(0.1, share=0.2))
    assert "minutes earlier" in earlier
    assert "a share of 20 % cannot be replayed: 50 % of the users were asked" in earlier
    later = text(*ab_test(48))
    assert "undecided at the end of its data" in later
    assert "of 48 hours" in later
