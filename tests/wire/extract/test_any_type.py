"""No member of a request or an answer is of the type that its API says: nothing of what the world sends breaks us."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.wire.extract import CapturedExchange, extract
from proxy.wire.extract.dispatch import converse
from tests.harness.cases import Case, written

CASES = [case for case in written() if case.group == "extraction"]
OTHERS: tuple[Any, ...] = ({"a": 1}, 7)
"""One that is in no set, and one that is no text."""


def changed(value: Any) -> Iterator[Any]:
    """`value` with one of its members, of whatever depth, being something else."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        for other in (*OTHERS, *changed(value[key])):
            copy = value.copy()
            copy[key] = other
            yield copy


def changed_lines(body: bytes) -> Iterator[bytes]:
    """`body` with something else in one of the JSON objects that it has on lines of their own."""
    lines = body.split(b"\n")
    for at, line in enumerate(lines):
        start = line.find(b"{")
        try:
            event = json.loads(line[start:]) if start >= 0 else None
        except ValueError:
            continue
        for other in changed(event):
            yield b"\n".join((*lines[:at], line[:start] + json.dumps(other).encode(), *lines[at + 1 :]))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_member_of_another_type_breaks_nothing(case: Case) -> None:
    request = json.dumps(case.request.get("body")).encode()
    headers = {name.lower(): text for name, text in case.answer.get("headers", {}).items()}
    answer = case.answer_body
    bodies = [*((request, other) for other in changed_lines(answer)), *((o, answer) for o in changed_lines(request))]
    for sent, came in bodies:
        exchange = CapturedExchange(
            target=case.request["path"], request=sent, response=came, response_type=headers.get("content-type", "")
        )
        extract(exchange)
        converse(exchange)
