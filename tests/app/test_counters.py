"""What workers count has one owner: a slot that nobody declared, or nobody explains, is named here."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from proxy.app.counters import COUNTER_TEXTS, COUNTERS, WORKER_COUNTERS
from proxy.metrics.slots import WorkerCounter, slots_of

ROOT = Path(__file__).parents[2]
_SOURCES = [*(ROOT / "proxy/gateway").rglob("*.py"), ROOT / "proxy/app/worker.py"]
_PAGE = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8").splitlines()


def undocumented(counters: Sequence[WorkerCounter], lines: Sequence[str]) -> list[str]:
    """Rows that docs/reference/metrics.md lacks."""
    known = [line.replace("`", "") for line in lines]
    return [
        counter.row for counter in counters if not any(line.startswith(counter.row.replace("`", "")) for line in known)
    ]


def counted(source: str) -> Iterator[str]:
    """What a module counts by a text of its own: a slot, or where a label's value is worked out, the family's name."""
    for node in ast.walk(ast.parse(source)):
        named = node.func if isinstance(node, ast.Call) else None
        method = named.attr if isinstance(named, ast.Attribute) else named.id if isinstance(named, ast.Name) else None
        if not isinstance(node, ast.Call) or method not in {"count", "add", "set"} or not node.args:
            continue
        match node.args[0]:
            case ast.Constant(value=str(slot)) if slot[:1].isalpha():  # text.count(":") is none
                yield slot
            case ast.JoinedStr(values=[ast.Constant(value=str(begin)), *_]):
                yield begin.partition("{")[0]


def undeclared(sources: dict[str, str], slots: Sequence[str]) -> list[str]:
    """What is counted without a slot, and where."""
    known = {*slots, *(slot.partition("{")[0] for slot in slots)}
    return [f"{path}: {slot}" for path, source in sources.items() for slot in counted(source) if slot not in known]


def test_every_counter_is_documented() -> None:
    assert "\n".join(undocumented(COUNTERS, _PAGE)) == ""


def test_everything_that_is_counted_has_a_slot() -> None:
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in _SOURCES}
    assert "\n".join(undeclared(sources, WORKER_COUNTERS)) == ""
    found = {slot for source in sources.values() for slot in counted(source)}
    assert {"requests_total", "in_flight", "protocol_errors_total"} <= found


def test_what_a_new_counter_lacks_is_named() -> None:
    new = WorkerCounter(name="echoes_total", text="Answers heard twice.", labels=(("wall", ("north", "south")),))
    assert undocumented([new], _PAGE) == ["| `ratchet_gateway_echoes_total` | counter | wall |"]
    source = "self.services.count('echoes_total{wall=\"north\"}')\ncount(f'echoes_total{{wall=\"{wall}\"}}')"
    assert undeclared({"a.py": source}, WORKER_COUNTERS) == ['a.py: echoes_total{wall="north"}', "a.py: echoes_total"]
    assert undeclared({"a.py": source}, slots_of([new])) == []


def test_a_name_has_one_meaning() -> None:
    assert len(COUNTER_TEXTS) == len(COUNTERS)
    assert len(set(WORKER_COUNTERS)) == len(WORKER_COUNTERS)


def test_a_slot_names_the_values_of_all_labels() -> None:
    both = WorkerCounter(name="a_total", text="", labels=(("x", ("1", "2")), ("y", ("3",))))
    assert list(both.slots()) == ['a_total{x="1",y="3"}', 'a_total{x="2",y="3"}']
    assert list(WorkerCounter(name="open", text="").slots()) == ["open"]
    with pytest.raises(ValueError, match="zip"):
        both.slot("1")
