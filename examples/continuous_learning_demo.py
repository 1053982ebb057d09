"""The quick start's five demos, one after the other, in a few seconds: nothing is downloaded, nobody is asked.

    python examples/continuous_learning_demo.py [number of a demo …]

1. Basic logging: a call of a model is written down, a user's thumb is added.
2. Data generation: a training file is made of what was good, and it is told what was left out, and why.
3. Trigger checking: what has to happen before a retrain starts, and how near that is.
4. A/B testing: half of the users get the new model; the numbers decide.
5. Full loop iteration: log, retrain, test, promote, as it goes on for ever in production.

The models are made up: a quality of 0.7 or 0.9 is all that tells them apart. Everything around them is the real thing.
Hours pass because the demo moves a clock by hand; in production leave `clock` out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy import (
    ABTestConfig,
    ContinuousLearningLoop,
    DataGeneratorConfig,
    LoopConfig,
    TrainingDataGenerator,
    TriggerConfig,
    UsageLogger,
)
from proxy.clock import ManualClock

HOUR_S = 3600.0
TOPICS = ("tides", "glaciers", "violins", "comets", "bridges", "saffron", "lighthouses", "fjords")


def settings(folder: Path, **changes: Any) -> LoopConfig:
    """Small thresholds, so that a demo's few users are enough; the defaults are for production."""
    return LoopConfig(
        db_path=str(folder / "usage.db"),
        output_dir=str(folder / "training"),
        models_dir=str(folder / "models"),
        champion_name="nayru-v1",
        trigger_config=TriggerConfig(min_new_samples=60, min_usable_samples=20),
        ab_test_config=ABTestConfig(
            initial_challenger_traffic=0.5,
            stages=(0.5,), feedback_weight=0.0, latency_weight=0.0, min_duration_hours=48.0,
            min_samples_per_version=40,
        ),
        **changes,
    )  # fmt: skip


def question(number: int) -> str:
    """A question of its own for each number."""
    return f"What should I know about {TOPICS[number % len(TOPICS)]}, part {number}?"


def answer(number: int) -> str:
    """And its answer."""
    return f"Part {number} of all about {TOPICS[number % len(TOPICS)]} is {number * number} pages long."


def basic_logging(folder: Path) -> None:
    """Log three calls and their thumbs, and print the sums."""
    with UsageLogger(folder / "usage.db") as logger:
        for number, feedback in enumerate((1, 1, -1)):
            record_id = logger.log(
                query=question(number), response=answer(number), model="nayru-v1", latency_ms=420, quality_score=0.85
            )
            logger.record_feedback(record_id, feedback=feedback)
        print(f"the newest record: {logger.get_records(limit=1)[0]['query']}")
        statistics = logger.get_statistics()
    print(f"{statistics['total']} calls, {statistics['feedback_rate']:.0%} with feedback, "
          f"{statistics['positive']} thumbs up and {statistics['negative']} down")  # fmt: skip


def data_generation(folder: Path) -> None:
    """Ten calls, of which some are bad, disliked or said twice; the file has the rest."""
    with UsageLogger(folder / "usage.db") as logger:
        for number in range(10):
            said = 0 if number == 9 else number  # the last one says what the first has said
            record_id = logger.log(
                question(said), answer(said), "nayru-v1", quality_score=0.4 if number == 1 else 0.9, user=f"u{number}"
            )
            logger.record_feedback(record_id, feedback=-1 if number == 2 else 1)
        chosen = DataGeneratorConfig(min_quality_score=0.7, min_user_feedback=1, holdout_share=0.0)
        manifest = TrainingDataGenerator(logger, chosen, output_dir=folder / "training").generate("demo")
    left_out = ", ".join(f"{reason.replace('_', ' ')}: {n}" for reason, n in sorted(manifest["dropped"].items()) if n)
    print(f"{manifest['samples']} samples of {manifest['seen']} calls; left out: {left_out}")
    first = min(Path(manifest["data_path"]).read_text(encoding="utf-8").splitlines())
    print(f"a line of the file: {json.dumps(json.loads(first)['messages'])}")


def trigger_checking(folder: Path) -> None:
    """How near each trigger is, before and after there are enough samples."""
    with ContinuousLearningLoop(settings(folder), clock=ManualClock()) as loop:
        loop.run_iteration()  # the first one only installs the loop
        for users in (range(10), range(10, 30)):  # who ask twice each
            ask(loop, users)
            for trigger in loop.get_status_summary()["triggers"]:
                if trigger["name"] in ("sample_count", "schedule"):
                    due = "due" if trigger["due"] else "not due"
                    print(f"{2 * users.stop} calls, {trigger['name'].replace('_', ' ')}: {due}. {trigger['reason']}")


def ab_testing(folder: Path) -> None:
    """Users stay on the model that they have; the verdict waits for time and proof."""
    clock = ManualClock()
    with ContinuousLearningLoop(settings(folder), clock=clock) as loop:
        ask(loop, range(80))
        clock.advance(60)
        challenger = loop.run_iteration(train_fn=trainer(folder))["challenger_deployed"]
        first, again = ([loop.choose_model(f"user {n}").name for n in range(200)] for _ in range(2))
        print(f"both models have users: {len(set(first)) == 2}; every user stays with theirs: {first == again}")
        for hours in (1, 48):
            clock.advance(hours * HOUR_S)
            ask(loop, range(120), {challenger: 0.9})
            update = loop.run_iteration(train_fn=trainer(folder))["ab_test_update"]
            waits = [reason for reason in update["reasons"] if reason.startswith("Time:")]
            print(f"{hours} hours later: {update['verdict']}. {' '.join(waits)}".rstrip())


def full_loop_iteration(folder: Path) -> None:
    """All of it, until the new model is the champion."""
    clock = ManualClock()
    with ContinuousLearningLoop(settings(folder), clock=clock) as loop:
        ask(loop, range(80))
        clock.advance(60)
        result = loop.run_iteration(train_fn=trainer(folder))
        retrain = result["retrain"]
        print(f"retrained because of the {retrain['trigger'].replace('_', ' ')}: {retrain['status']}")
        print(f"what the training returned: {retrain['metrics']}")
        challenger = result["challenger_deployed"]
        ask(loop, range(120), {challenger: 0.9})
        clock.advance(49 * HOUR_S)
        print(f"promoted: {loop.run_iteration(train_fn=trainer(folder))['champion_promoted'] == challenger}")
        summary = loop.get_status_summary()
        print(f"Total usage: {summary['usage_stats']['total']}")
        print(f"Avg quality: {summary['usage_stats']['avg_quality_score']:.1f}")
        print(f"Total retrains: {summary['status']['total_retrains']}")
        print(f"Champion model: {summary['status']['champion_model']}")


def ask(loop: ContinuousLearningLoop, numbers: range, quality: dict[str, float] | None = None) -> None:
    """Two questions of each user, at the model that is theirs. `quality`: by model, 0.7 where it says nothing."""
    for number in numbers:
        choice = loop.choose_model(f"user {number}")
        score = (quality or {}).get(choice.name, 0.7) + 0.01 * (number % 5)
        for turn in (0, 1):
            loop.log_usage(
                query=question(2 * number + turn), response=answer(2 * number + turn), model=choice.name,
                latency_ms=400, quality_score=score, user=f"user {number}",
            )  # fmt: skip


def trainer(folder: Path) -> Callable[[str], dict[str, Any]]:
    """A training function: it gets the path of the data, and returns where the model is, with metrics."""

    def train_model(data_path: str) -> dict[str, Any]:
        lines = Path(data_path).read_text(encoding="utf-8").splitlines()
        model_path = folder / "models" / "nayru-v2"
        model_path.write_text(f"trained on {len(lines)} samples", encoding="utf-8")
        return {"loss": 0.25, "accuracy": 0.9, "model_path": str(model_path)}

    return train_model


DEMOS = {
    "Basic logging": basic_logging,
    "Data generation": data_generation,
    "Trigger checking": trigger_checking,
    "A/B testing": ab_testing,
    "Full loop iteration": full_loop_iteration,
}


def main(wanted: list[str]) -> None:
    """Run the demos of these numbers, or all; each begins with a folder of its own that is empty."""
    for number, (name, demo) in enumerate(DEMOS.items(), 1):
        if wanted and str(number) not in wanted:
            continue
        print(f"\n{number}. {name}. {(demo.__doc__ or '').splitlines()[0]}")
        with tempfile.TemporaryDirectory(prefix="ratchet-demo-") as folder:
            demo(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
