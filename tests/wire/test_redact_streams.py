"""Redaction of streams that no pattern could read as they are: binary frames, and texts in pieces of an array."""

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from proxy.wire.extract import CapturedExchange, Kind, extract
from proxy.wire.redact import Redactor
from tests.harness.eventstream import chunk, converse
from tests.harness.shapes import FRAMES


@dataclass(frozen=True)
class Settings:
    patterns: tuple[str, ...] = (r"al@x\.org",)
    callable: str | None = None
    engine: Literal["re2", "python"] = "re2"


def clean(body: bytes, content_type: str) -> bytes:
    return Redactor(Settings()).clean(body, content_type, "")


def words(*pieces: str) -> bytes:
    deltas = [{"contentBlockIndex": 0, "delta": {"text": piece}} for piece in pieces]
    stop = converse("messageStop", {"stopReason": "end_turn"})
    return b"".join(converse("contentBlockDelta", delta) for delta in deltas) + stop


NATIVE = [{"generation": "Ask al@", "stop_reason": None}, {"generation": "x.org", "stop_reason": "stop"}]
GEMINI = [{"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}]} for text in ("Ask al@", "x.org")]


@pytest.mark.parametrize(("path", "ask", "body", "content_type", "kind"), [
    ("/model/m/converse-stream", {"messages": []}, words("Ask al@", "x.org"), FRAMES, Kind.BEDROCK),
    ("/model/m/invoke-with-response-stream", {"prompt": "hi"}, b"".join(map(chunk, NATIVE)), FRAMES, Kind.BEDROCK),
    ("/v1/models/m:streamGenerateContent", {"contents": []}, json.dumps(GEMINI).encode(), "application/json",
     Kind.GEMINI),
    ("/v1/models/m:streamGenerateContent", {"contents": []}, json.dumps(GEMINI)[:-1].encode(), "application/json",
     Kind.GEMINI),
])  # fmt: skip
def test_a_secret_in_pieces_is_found_and_the_rest_understood(
    path: str, ask: dict[str, object], body: bytes, content_type: str, kind: Kind
) -> None:
    cleaned = clean(body, content_type)
    assert b"x.org" not in cleaned
    asked = json.dumps(ask).encode()
    found = extract(CapturedExchange(target=path, request=asked, response=cleaned, response_type=content_type))
    assert (found.kind, found.response) == (kind, "Ask [redacted]")


def test_frames_of_an_unknown_model_are_cleaned_as_what_they_add_up_to() -> None:
    cleaned = clean(chunk({"words": "al@"}) + chunk({"words": "x.org", "done": True}), FRAMES)
    assert json.loads(cleaned) == {"words": "[redacted]", "done": True}


def test_an_array_of_something_else_stays_as_it_is() -> None:
    assert (
        clean(b'[{"label": "al@x.org"}, {"label": 1}]', "application/json")
        == b'[{"label": "[redacted]"}, {"label": 1}]'
    )
