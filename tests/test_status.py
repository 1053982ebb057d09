"""The status document is one type: what the loop writes is what everybody reads, and each field is explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

import proxy.status
from policies.actions import ACTIONS
from proxy.config.document import describe
from proxy.status import ActionStatus, PhaseStatus, Status, read_status, status_json
from tests.harness.arms import assessed
from tests.harness.status_page import PAGE, SCHEMA, render, schema

OWN = [kind for kind in vars(proxy.status).values() if isinstance(kind, type) and kind.__module__ == "proxy.status"]


def test_the_page_and_the_schema_are_those_of_the_type() -> None:
    """`make docs` writes them anew."""
    assert PAGE.read_text(encoding="utf-8") == render(PAGE.read_text(encoding="utf-8"))
    assert SCHEMA.read_text(encoding="utf-8") == schema()


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_every_field_has_a_line_that_says_what_it_is(kind: type) -> None:
    inherited = {
        field.name for base in kind.__mro__[1:] if dataclasses.is_dataclass(base) for field in dataclasses.fields(base)
    }
    own = {field.name for field in dataclasses.fields(kind)} - inherited
    assert own <= describe(kind).keys()


def test_a_document_of_an_older_version_is_read_and_a_newer_ones_fields_are_ignored() -> None:
    found = read_status({"phase": {"name": "idle"}, "from_the_future": 1})
    assert found == Status(phase=PhaseStatus(name="idle"))
    with pytest.raises(ValueError, match="not a status document"):
        read_status({"phase": 3})


def test_what_is_written_is_read_back() -> None:
    experiment = proxy.status.ExperimentStatus(id=1, share=0.1, started_at=1.0, assessment=assessed())
    status = Status(phase=PhaseStatus(name="testing", since=1.0), experiment=experiment)
    document = status_json(status)
    assert "building" not in document, "only while a dataset is being prepared"
    assert read_status(msgspec.json.decode(msgspec.json.encode(document))) == status


def test_an_action_can_say_all_that_it_acts_on() -> None:
    known = {field.name for field in dataclasses.fields(ActionStatus)}
    assert {field.name for action in ACTIONS for field in dataclasses.fields(action)} <= known


def test_readers_take_fields_not_keys() -> None:
    """Every class that the document is made of can be reached from it: none is a mapping of anything to anything."""
    assert Any not in set(_types(Status))


def _types(kind: Any) -> Iterator[Any]:
    if kind is Any or not dataclasses.is_dataclass(kind):
        yield kind
        for inner in get_args(kind):
            yield from _types(inner)
        return
    for hint in get_type_hints(kind).values():
        yield from _types(hint)
