"""Whatever hides a secret, and wherever it is: it is nowhere in what is kept, in no reading of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any, Final
from urllib.parse import unquote_plus

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from proxy.config.serving import RedactionConfig
from proxy.wire.redact import REDACTED, Redactor

MARK: Final = "Jörg#7f3a"
REDACTOR: Final = Redactor(RedactionConfig(patterns=(MARK, r"\b\d{13,16}\b")))
JSON: Final = "application/json"

FEW: Final = settings(max_examples=60, phases=(Phase.generate,))
CASES: Final = st.randoms(use_true_random=False)
"""All that a test decides: hundreds of small decisions a document, which hypothesis would take too long to make."""
LETTERS: Final = 'abc XYZ ö日🙂 "\\/{}[]:,.%+&=\n'


def words(rnd: Random) -> str:
    return "".join(rnd.choice(LETTERS) for _ in range(rnd.randrange(12)))


def anything(rnd: Random, depth: int = 2) -> Any:
    """Any JSON without the secret."""
    kind = rnd.randrange(6 if depth else 4)
    if kind == 4:
        return [anything(rnd, depth - 1) for _ in range(rnd.randrange(3))]
    if kind == 5:
        return {words(rnd): anything(rnd, depth - 1) for _ in range(rnd.randrange(3))}
    return (None, True, 2.5, words(rnd))[kind]


def readings(text: str) -> Iterator[str]:
    """`text`, and what is left of it when all escapes are undone again and again."""
    for _ in range(14):
        yield text
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
        text = re.sub(r'\\(["\\/])', r"\1", unquote_plus(text, errors="surrogateescape"))


def assert_gone(kept: bytes | str) -> None:
    text = kept if isinstance(kept, str) else kept.decode("utf-8", "surrogateescape")
    for reading in readings(text):
        assert MARK not in reading


def escaped(rnd: Random, text: str) -> str:
    """The inside of a JSON string that says `text`, with any of its characters escaped."""
    out = []
    for char in text:
        way = rnd.randrange(4)
        if way and char not in '"\\' and char >= " ":
            out.append(char)
        else:
            units = char.encode("utf-16-be")
            codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
            out += [f"\\u{code:04x}" if way == 1 else f"\\u{code:04X}" for code in codes]
    return "".join(out)


def hidden(rnd: Random) -> str:
    """A text with the secret in it: in JSON within JSON, percent-encoded, or both."""
    text = words(rnd) + MARK + words(rnd)
    for _ in range(rnd.randrange(5)):
        text = f'{{"a": "{escaped(rnd, text)}"}}' if rnd.randrange(3) else percent(rnd, text)
    return text


def percent(rnd: Random, text: str) -> str:
    """`text` percent-encoded, at least where it has to be."""
    return "".join(
        f"%{byte:02X}" if byte > 126 or byte < 33 or byte in b'%"\\#' or not rnd.randrange(4) else chr(byte)
        for byte in text.encode()
    )


def document(rnd: Random) -> str:
    """JSON with the secret somewhere, as a value or a name, written in any way."""
    inside = f'"{escaped(rnd, hidden(rnd))}"'
    for _ in range(rnd.randrange(4)):
        other = json.dumps(anything(rnd))
        inside = rnd.choice((
            f'{{"x": {inside}, "y":{other}}}', f"[{other}, {inside}]", f'{{"x": {inside},"x":{other}}}',
        ))  # fmt: skip
    return f'{{"{escaped(rnd, MARK)}": {inside}}}' if rnd.randrange(2) else f"[{inside}]"


@FEW
@given(CASES)
def test_in_any_document(rnd: Random) -> None:
    body = document(rnd).encode()
    kept = REDACTOR.clean(body, JSON, "")
    assert_gone(kept)
    json.loads(kept, strict=False)
    quick = REDACTOR.quick(body, JSON, "")
    assert quick is None or quick == kept


@FEW
@given(CASES)
def test_in_a_document_that_is_cut(rnd: Random) -> None:
    text = document(rnd)
    assert_gone(REDACTOR.clean(text[: rnd.randrange(len(text))].encode(), JSON, ""))


@FEW
@given(CASES)
def test_in_a_target(rnd: Random) -> None:
    kept = REDACTOR.clean_target("/v1/x?q=" + percent(rnd, hidden(rnd)))
    assert_gone(kept)
    assert re.fullmatch(r"[\x21-\x7e]+", kept)


SHAPES: Final[tuple[Any, ...]] = (
    lambda piece, at: {"choices": [{"index": 0, "delta": {"content": piece}}]},
    lambda piece, at: {"token": {"text": piece}},
    lambda piece, at: {"candidates": [{"content": {"parts": [{"text": piece}]}}]},
    lambda piece, at: {"say": [{"it": piece}]},
    lambda piece, at: {f"word{at}": piece},
    lambda piece, at: {"n": at, "deep": {"er": {"text": piece}}},
    lambda piece, at: piece,
)


@FEW
@given(CASES)
def test_torn_over_the_events_of_any_stream(rnd: Random) -> None:
    text = "to " + MARK + ", please"
    cuts = sorted(rnd.sample(range(1, len(text)), rnd.randrange(6)))
    pieces = [text[start:end] for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True)]
    shape = rnd.choice(SHAPES)
    events = [json.dumps(shape(piece, at), ensure_ascii=bool(rnd.randrange(2))) for at, piece in enumerate(pieces)]
    start, end, kind = rnd.choice((
        ("data: ", "\n\n", "text/event-stream"), ("data:", "\n", "text/event-stream"), ("data: ", "\r\n\r\n", ""),
        ("", "\n", "application/x-ndjson"),
    ))  # fmt: skip
    body = "".join(start + event + end for event in events)
    kept = REDACTOR.clean(body.encode(), kind, "").decode()
    assert_gone(kept)
    assert MARK not in "".join(strings(json.loads(kept)))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(inner)


@FEW
@given(CASES)
def test_a_bare_number_becomes_a_text(rnd: Random) -> None:
    card = {"card": rnd.randrange(10**12, 10**16)}
    text = json.dumps({**card, "other": anything(rnd), "nested": json.dumps(card)})
    kept = json.loads(REDACTOR.clean(text.encode(), JSON, ""))
    assert kept["card"] == REDACTED
    assert json.loads(kept["nested"]) == {"card": REDACTED}


@FEW
@given(CASES)
def test_what_holds_nothing_stays_as_it_is(rnd: Random) -> None:
    text = json.dumps([anything(rnd), words(rnd)]).encode()
    assert REDACTOR.clean(text, JSON, "") == text
