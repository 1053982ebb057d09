"""Generations of models: how many trainings of this installation lie behind each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.rows import Model
from proxy.store.reading.ancestry import TRAINED_BESIDE, generations


def model(id: int, name: str, *, run: bool = True, beside: int | None = None, **change: Any) -> Model:
    detail = {} if beside is None else {TRAINED_BESIDE: beside}
    return Model(id=id, name=name, run_id=f"run-{id}" if run else None, detail=detail, **change)


BASE = model(1, "base", run=False)


def test_a_model_is_one_more_than_the_champion_of_its_time() -> None:
    """The second lost its test, so the third was again trained beside the first."""
    beside = {"a": 1, "lost": 2, "b": 2, "c": 4}
    models = [BASE, *(model(at, name, beside=champion) for at, (name, champion) in enumerate(beside.items(), start=2))]
    assert generations(models, {}) == {"a": 1, "lost": 2, "b": 2, "c": 3}


def test_of_an_older_version_the_first_test_tells_the_champion() -> None:
    models = [BASE, model(2, "a"), model(3, "b"), model(4, "c")]
    assert generations(models, {2: 1, 3: 1, 4: 3}) == {"a": 1, "b": 1, "c": 2}


def test_where_nothing_is_known_the_order_of_creation_counts() -> None:
    models = [BASE, model(2, "a"), model(3, "hosted", run=False), model(4, "b")]
    assert generations(models, {}) == {"a": 1, "b": 2}


def test_models_from_elsewhere_have_no_generation() -> None:
    assert generations([BASE, model(2, "hosted", run=False)], {2: 1}) == {}


def test_a_model_is_known_by_its_path_too() -> None:
    assert generations([BASE, model(2, "a", path="/models/a")], {}) == {"a": 1, "/models/a": 1}


@pytest.mark.parametrize("beside", [2, 9])
def test_a_champion_that_can_not_have_been_is_none(beside: int) -> None:
    assert generations([BASE, model(2, "a", beside=beside)], {}) == {"a": 1}


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=12))
def test_only_models_with_a_run_have_one_and_at_most_the_number_of_trainings(
    rows: list[tuple[bool, int]],
) -> None:
    models = [model(at, f"m{at}", run=run, beside=beside) for at, (run, beside) in enumerate(rows, start=1)]
    found = generations(models, {})
    trained = [each.name for each in models if each.run_id is not None]
    assert list(found) == trained
    assert all(1 <= found[name] <= at for at, name in enumerate(trained, start=1))
