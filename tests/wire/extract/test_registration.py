"""The list of API shapes: what one that is only half there lacks, by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
import pytest

from policies.conversation import Conversation, Turn
from proxy.wire.extract import (
    SHAPES,
    CapturedExchange,
    Extraction,
    ParsedRequest,
    ParsedResponse,
    Shape,
    apis,
    extract,
)
from proxy.wire.extract.shapes import served_at
from tests.harness import records_page
from tests.harness.cases import Case, written

PAGE: Final = records_page.PAGE.read_text(encoding="utf-8")
ROW: Final = "its row in docs/reference/records.md: run `make docs`"
CASE: Final = "a case in tests/cases/extraction"
STREAMED: Final = "a streamed case in tests/cases/extraction"
LINE: Final = "its line in the list of shapes, before whichever reads its case now"
FACTS: Final = {"query": "parse_request", "response": "parse_response", "prompt_tokens": "parse_response (tokens)",
                "completion_tokens": "parse_response (tokens)"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A case of `tests/cases/extraction` that says its kind, read."""

    name: str
    exchange: CapturedExchange
    request: dict[str, Any]
    right: Mapping[str, Any]

    @classmethod
    def of(cls, case: Case) -> Example:
        exchange = CapturedExchange(
            target=case.request["path"],
            request=orjson.dumps(case.request["body"]),
            response=case.answer_body,
            response_type=case.answer["headers"]["Content-Type"],
        )
        return cls(name=case.name, exchange=exchange, request=case.request["body"], right=case.right)

    @property
    def path(self) -> str:
        return self.exchange.target.partition("?")[0]

    @property
    def found(self) -> Extraction:
        return extract(self.exchange)

    @property
    def response(self) -> dict[str, Any]:
        """Unstreamed."""
        document = self.found.reassembled or orjson.loads(self.exchange.response)
        return dict(document[0] if isinstance(document, list) else document)


EXAMPLES: Final = [Example.of(case) for case in written() if case.group == "extraction" and "kind" in case.right]


def of(shape: Shape, examples: Sequence[Example]) -> list[Example]:
    """The examples of this shape: of its kind, with a request like its own, at a path that no sibling has more of."""
    return [
        example
        for example in examples
        if example.right["kind"] == shape.kind.name
        and shape.serves(example.path)
        and shape.fits(example.request)
        and all(_match(other, example) <= _match(shape, example) for other in SHAPES if other.kind == shape.kind)
    ]


def _match(shape: Shape, example: Example) -> int:
    """How much of the example's path is the shape's."""
    fits = shape.fits(example.request)
    return max((len(suffix) for suffix in shape.suffixes if fits and example.path.endswith(suffix)), default=0)


def lacks(shape: Shape, *, examples: Sequence[Example] = EXAMPLES, page: str = PAGE) -> set[str]:
    """What is missing of a shape."""
    return set(_lacks(shape, of(shape, examples), page))


def _lacks(shape: Shape, examples: Sequence[Example], page: str) -> Iterator[str]:
    if not all(any(row.startswith(f"| `{shape.kind.name}` |") and part in row for row in page.splitlines())
               for part in (f"{shape.name}: ", *(f"`…{suffix}`" for suffix in shape.suffixes))):  # fmt: skip
        yield ROW
    if not any(not example.found.streamed for example in examples):
        yield CASE
    if shape.stream is not None and not any(example.found.streamed for example in examples):
        yield STREAMED
    for example in examples:
        yield from _misreads(shape, example)


def _misreads(shape: Shape, example: Example) -> Iterator[str]:
    found, right, response = example.found, example.right, example.response
    if shape not in served_at(example.path) or found.kind != shape.kind.name:
        yield LINE
    asked, answered = shape.parse_request(example.request), shape.parse_response(response)
    seen = {"query": asked.query, "response": answered.text, "prompt_tokens": answered.prompt_tokens,
            "completion_tokens": answered.completion_tokens}  # fmt: skip
    yield from (FACTS[name] for name, value in seen.items() if name in right and value != right[name])
    said = shape.converse(example.request, response)
    if shape.kind.trainable and (said.answer.text != right["response"] or not said.turns):
        yield "converse"
    lists = [key for key, value in example.request.items() if isinstance(value, list)]
    if any("role" in turn for key in lists for turn in example.request[key] if key not in shape.turns):
        yield "turns"
    if found.streamed and shape.stream is not None:
        ends = shape.stream.is_last is None or found.whole
        if found.response != right["response"] or not ends or found.first_content is None:
            yield "stream"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_lacks_nothing(shape: Shape) -> None:
    assert lacks(shape) == set()


def test_every_module_of_apis_is_in_the_list() -> None:
    """Also whatever shape a module has beside its first."""
    modules = [
        importlib.import_module(f"{apis.__name__}.{found.name}") for found in pkgutil.iter_modules(apis.__path__)
    ]
    made = {(module.__name__, name): value for module in modules for name, value in vars(module).items()
            if isinstance(value, Shape)}  # fmt: skip
    assert [where for where, shape in made.items() if shape not in SHAPES] == []
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    assert {name for name, _ in made} == {module.__name__ for module in modules}


def _silent(_: Any) -> Any:
    return ParsedRequest()


BROKEN: Final[Mapping[str, tuple[Callable[[Shape], Shape], set[str]]]] = {
    "no row": (lambda shape: replace(shape, name="Another API"), {ROW}),
    "no case": (lambda shape: replace(shape, suffixes=("/elsewhere",)),
                {ROW, CASE,
                 STREAMED}),
    "no parser of requests": (lambda shape: replace(shape, parse_request=_silent), {"parse_request"}),
    "no parser of responses": (lambda shape: replace(shape, parse_response=lambda _: ParsedResponse()),
                               {"parse_response", "parse_response (tokens)"}),
    "no conversation": (lambda shape: replace(
        shape, converse=lambda *_: Conversation(turns=(), answer=Turn(role="assistant"))), {"converse"}),
    "no turns": (lambda shape: replace(shape, turns=()), {"turns"}),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_half_registered_shape_is_told_what_it_lacks(broken: str) -> None:
    spoil, missing = BROKEN[broken]
    [shape] = [shape for shape in SHAPES if shape.kind.name == "chat" and shape.stream is not None]
    assert lacks(spoil(shape)) - {LINE} == missing
    assert lacks(shape, examples=[]) == {
        CASE,
        STREAMED,
    }
