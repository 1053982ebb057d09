"""The loop as a library, without HTTP: an answer book that learns from its corrections.

    python examples/python_library/learn.py [directory]

The model is a JSON file of questions and answers. It begins with a few wrong answers; users vote and correct. When
there are enough good samples the loop calls `train_model`, half of the users try the new book, and when the numbers
bear it out, it takes over. Hours are seconds here.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from proxy import ABTestConfig, ContinuousLearningLoop, DataGeneratorConfig, LoopConfig, TriggerConfig

SECOND = 1 / 3600
TRUTH = {"capital of France?": "Paris", "capital of Italy?": "Rome", "capital of Spain?": "Madrid",
         "capital of Kenya?": "Nairobi", "capital of Chile?": "Santiago", "capital of Japan?": "Tokyo"}  # fmt: skip
FIRST_BOOK = {**TRUTH, "capital of Kenya?": "Mombasa", "capital of Chile?": "Lima", "capital of Japan?": "Osaka"}


def settings(directory: Path) -> LoopConfig:
    """Defaults where they fit; what takes days in production takes seconds."""
    return LoopConfig(
        check_interval_seconds=0.5,
        db_path=str(directory / "usage.db"),
        output_dir=str(directory / "training"),
        models_dir=str(directory / "models"),
        champion_name="first-book",
        trigger_config=TriggerConfig(min_new_samples=60, min_usable_samples=20, enable_scheduled=False),
        generator_config=DataGeneratorConfig(min_user_feedback=1, deduplicate=False),
        ab_test_config=ABTestConfig(
            initial_challenger_traffic=0.5,
            latency_weight=0.0,
            min_duration_hours=SECOND,
            min_samples_per_version=60,
            watch_hours=SECOND,
        ),
    )


def train_model(data_path: str) -> dict[str, Any]:
    """The most frequent answer per question, over everything that users approved of or corrected."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for line in Path(data_path).read_text(encoding="utf-8").splitlines():
        *_, question, answer = json.loads(line)["messages"]
        answers[question["content"]][answer["content"]] += 1
    book = {question: counts.most_common(1)[0][0] for question, counts in answers.items()}
    run = Path(data_path).parent
    path = run.parents[1] / "models" / f"{run.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(book), encoding="utf-8")
    return {"model_path": str(path), "questions": len(book)}


def ask(loop: ContinuousLearningLoop, user: str, question: str) -> None:
    """One user asks one question, of the model that is theirs, and says what they think of the answer."""
    choice = loop.choose_model(user)
    book = FIRST_BOOK if choice.path is None else json.loads(Path(choice.path).read_text(encoding="utf-8"))
    answer = book.get(question, "I do not know")
    right = answer == TRUTH[question]
    record_id = loop.log_usage(
        query=question,
        response=answer,
        model=choice.name,
        latency_ms=1.0,
        user=user,
        quality_score=0.9 if right else 0.3,
    )
    loop.record_feedback(record_id, feedback=1 if right else -1, correction=None if right else TRUTH[question])


def main(directory: Path) -> None:
    """Ask until a better book has been promoted and the watch over it has ended."""
    questions = list(TRUTH)
    with ContinuousLearningLoop(settings(directory)) as loop:
        for turn in range(60):
            for number in range(40):
                ask(loop, f"user {number}", questions[(number + turn) % len(questions)])
            loop.run_iteration(train_fn=train_model)
            status = loop.get_status_summary()["status"]
            print(f"{status['phase']:>10}  {status['champion_model']:<12}  {status['reason']}")
            if status["total_promotions"] and status["phase"] == "idle":
                print(f"retrains: {status['total_retrains']}, promotions: {status['total_promotions']}")
                return
            time.sleep(0.2)
    raise SystemExit("no better book was found")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="ratchet-library-")))
