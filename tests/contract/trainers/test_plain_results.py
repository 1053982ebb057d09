"""Results of trainings as plain JSON: whatever has a form there keeps it, everything else is named and refused."""

from __future__ import annotations

import datetime as dt
import json
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.loop.adapters.trainers.plain import NotPlainError, plain
from proxy.loop.adapters.trainers.results import accept
from proxy.loop.ports import Failed, Succeeded

Point = namedtuple("Point", "x y")


class Size(IntEnum):
    BIG = 7


class Name(Enum):
    ADAM = "adam"


@dataclass
class Epoch:
    loss: float
    at: dt.date


class Tensor:
    """As torch and jax have them."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def tolist(self) -> Any:
        return self.content


class Broken:
    def tolist(self) -> Any:
        raise RuntimeError("no data")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({0: 0.9, 1: 0.5}, {"0": 0.9, "1": 0.5}),
        ({1: "a", "1": "b"}, {"1": "a", "1 (2)": "b"}),
        ({None: 1, True: 2, 0.5: 3, (1, 2): 4, Size.BIG: 5, Name.ADAM: 6}, None),
        ({b"k": 1}, {"b'k'": 1}),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (-float("inf"), "-Infinity"),
        (2**64 - 1, 2**64 - 1),
        (10**30, 1e30),
        (10**400, "Infinity"),
        (Decimal("1.5"), 1.5),
        (Decimal("NaN"), "NaN"),
        (Decimal("sNaN"), "sNaN"),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), "NaN"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (Tensor(0.5), 0.5),
        (Tensor([np.float16(0.5)]), [0.5]),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", 1}), [1, "b"]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1).keys(), ["a"]),
        (Epoch(loss=0.5, at=dt.date(2026, 1, 2)), {"loss": 0.5, "at": "2026-01-02"}),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (dt.timedelta(minutes=1), 60.0),
        (Path("/models/a"), "/models/a"),
        (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (Size.BIG, 7),
        (Name.ADAM, "adam"),
        ("half \ud83d", "half �"),
        ("\ud83d\ude00", "😀"),
        ("\x00", "\x00"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_a_form_in_json_is_kept(value: Any, kept: Any) -> None:
    if kept is None:
        kept = {"null": 1, "true": 2, "0.5": 3, "[1, 2]": 4, "7": 5, "adam": 6}
    made = plain({"metric": value})
    assert made == {"metric": kept}
    assert orjson.loads(orjson.dumps(made)) == made


RING: list[Any] = []
RING.append(RING)
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "m.inner is of type object"),
        (b"bytes", "m.inner is of type bytes"),
        (int, "type[int]"),
        ([1, {"a": print}], "m.inner[1].a is of type builtin_function_or_method"),
        (iter([1]), "list_iterator"),
        (1j, "complex"),
        (RING, "inside itself"),
        (DEEP, "nested deeper than 100"),
        (Broken(), "Broken whose tolist() fails"),
        (np.zeros(3_000_000), "longer than 16 MiB"),
        ("x" * 17_000_000, "longer than 16 MiB"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_none_fails_the_run_and_names_the_place(value: Any, says: str) -> None:
    failed = accept({"model_path": "hf://a/b", "m": {"inner": value}}, base=None)
    assert isinstance(failed, Failed)
    assert says in failed.reason
    assert "inner" not in failed.written, "keys are the training's own words"


def test_the_same_value_twice_is_no_ring() -> None:
    part = [1]
    assert plain({"a": part, "b": [part, part]}) == {"a": [1], "b": [[1], [1]]}


KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(), st.tuples(st.integers()))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.decimals(), st.dates(),
    st.timedeltas(), st.uuids(), st.fractions(),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(KEYS, inner), st.tuples(inner, inner), st.sets(KEYS), st.frozensets(KEYS)
    ),
    max_leaves=10,
)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_nesting_of_plain_values_is_kept_whole(metrics: dict[Any, Any]) -> None:
    made = plain(metrics)
    assert len(made) == len(metrics)
    assert orjson.loads(orjson.dumps(made)) == made == json.loads(json.dumps(made))
    assert plain(made) == made, "what is plain stays as it is"
    assert isinstance(accept({**made, "model_path": "hf://a/b"}, base=None), Succeeded)


@given(st.recursive(st.builds(object) | st.binary(), lambda inner: st.lists(inner, min_size=1), max_leaves=5))
def test_nothing_else_gets_through(value: Any) -> None:
    with pytest.raises(NotPlainError):
        plain({"a": value})


def test_a_command_s_json_is_cleaned_too() -> None:
    made = accept(json.loads('{"model_path": "hf://a/b", "loss": NaN, "n": 1e999}'), base=None)
    assert made == Succeeded(result={"model_path": "hf://a/b", "loss": "NaN", "n": "Infinity"})


@pytest.mark.parametrize("path", ["a\x00b", "x" * 5000])
def test_a_path_that_no_disk_takes_is_a_failure(tmp_path: Path, path: str) -> None:
    assert isinstance(accept({"model_path": path}, base=tmp_path, home=tmp_path), Failed)


def test_a_model_of_another_runs_remains_is_refused(tmp_path: Path) -> None:
    failed, good, home = (tmp_path / name for name in ("run-1", "run-2", "run-3"))
    for folder in (failed, good, home):
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")
        (folder / "model").write_text("weights")
    (failed / "data.jsonl").write_text("kept after the failure")
    refused = accept({"model_path": str(failed / "model")}, base=tmp_path, home=home)
    assert isinstance(refused, Failed)
    assert "failed_runs_days" in refused.reason
    assert isinstance(accept({"model_path": str(good / "model")}, base=tmp_path, home=home), Succeeded)
