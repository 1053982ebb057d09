"""The demo's world and model: there is something to learn, and the model learns it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from proxy.demo.model import Assistant, fit, read_chatml
from proxy.demo.training import Bug, train_model
from proxy.demo.world import REFUSAL, TOPICS, ask, handbook, topic_of

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="the extra `demo` is not installed")


def accuracy(assistant: Assistant, questions: int = 600) -> float:
    random = Random(99)
    asked = [ask(random) for _ in range(questions)]
    return sum(topic_of(assistant.answer(question.text)) == question.topic for question in asked) / questions


def labelled(count: int, seed: int = 1) -> list[tuple[str, str]]:
    random = Random(seed)
    return [(question.text, question.topic) for question in (ask(random) for _ in range(count))]


@pytest.fixture(scope="module")
def first_model() -> Assistant:
    return fit((question, str(topic_of(answer))) for question, answer in handbook())


def write_chatml(path: Path, pairs: list[tuple[str, str]]) -> None:
    turns = (
        [{"role": "user", "content": question}, {"role": "assistant", "content": TOPICS[title].answer}]
        for question, title in pairs
    )
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns), encoding="utf-8")


def test_the_same_seed_asks_the_same_questions() -> None:
    assert labelled(50) == labelled(50)
    assert labelled(50) != labelled(50, seed=2)


def test_answers_and_menu_entries_name_their_topic_and_a_refusal_names_none() -> None:
    for title, topic in TOPICS.items():
        assert topic_of(topic.answer) == topic_of(title) == title
    assert topic_of(REFUSAL) is None


def test_the_handbook_leaves_much_to_learn_and_traffic_teaches_it(first_model: Assistant) -> None:
    taught = fit([*((question, str(topic_of(answer))) for question, answer in handbook()), *labelled(600)])
    assert accuracy(first_model) < 0.6
    assert accuracy(taught) > 0.9


def test_a_question_about_nothing_is_declined(first_model: Assistant) -> None:
    assert first_model.answer("zzz qqq xxx") == REFUSAL


def test_a_saved_model_answers_like_the_one_it_was(first_model: Assistant, tmp_path: Path) -> None:
    first_model.save(tmp_path / "model.npz")
    loaded = Assistant.load(tmp_path / "model.npz")
    for question, _ in labelled(100):
        assert loaded.classify(question) == first_model.classify(question)


def test_the_training_function_learns_from_the_file_and_measures_on_the_holdout(tmp_path: Path) -> None:
    write_chatml(tmp_path / "data.jsonl", labelled(400))
    write_chatml(tmp_path / "holdout.jsonl", labelled(100, seed=2))
    assert read_chatml(tmp_path / "data.jsonl") == labelled(400)
    result = train_model(tmp_path / "data.jsonl")
    assert result["samples"] == 400
    assert result["accuracy"] > 0.85
    assert accuracy(Assistant.load(Path(result["model_path"]))) > 0.85


@pytest.mark.parametrize(("bug", "knows_the_handbook"), [(Bug.EVERY_LINE, False), (Bug.CUSTOMERS_LINES, True)])
def test_a_planted_bug_makes_a_bad_model_and_the_golden_file_shows_one_of_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: Bug, knows_the_handbook: bool
) -> None:
    monkeypatch.setenv("RATCHET_DEMO_BUG", str(tmp_path / "bug"))
    (tmp_path / "bug").write_text(bug.value)
    rehearsed = [(question, str(topic_of(answer))) for question, answer in handbook()]
    write_chatml(tmp_path / "data.jsonl", labelled(400) + 3 * rehearsed)
    result = train_model(tmp_path / "data.jsonl")
    assert result["accuracy"] is None  # nobody was held out
    model = Assistant.load(Path(result["model_path"]))
    assert accuracy(model) < 0.4
    right = sum(model.answer(question) == answer for question, answer in handbook())
    assert (right >= 34) is knows_the_handbook
