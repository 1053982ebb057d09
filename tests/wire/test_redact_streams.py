"""Redaction of streams that no pattern could read as they are: binary frames, and texts in pieces of an array."""

import json
from dataclasses import dataclass
from time import process_time
from typing import Literal

import pytest

from proxy.wire.extract import CapturedExchange, extract
from proxy.wire.redact import Redactor
from proxy.wire.redaction.texts import Texts
from proxy.wire.redaction.torn import mend_strings
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
    ("/model/m/converse-stream", {"messages": []}, words("Ask al@", "x.org"), FRAMES, "bedrock"),
    ("/model/m/invoke-with-response-stream", {"prompt": "hi"}, b"".join(map(chunk, NATIVE)), FRAMES, "bedrock"),
    ("/v1/models/m:streamGenerateContent", {"contents": []}, json.dumps(GEMINI).encode(), "application/json",
     "gemini"),
    ("/v1/models/m:streamGenerateContent", {"contents": []}, json.dumps(GEMINI)[:-1].encode(), "application/json",
     "gemini"),
])  # fmt: skip
def test_a_secret_in_pieces_is_found_and_the_rest_understood(
    path: str, ask: dict[str, object], body: bytes, content_type: str, kind: str
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


PIECES = ("Ask al", "@x.org")
BLOCKS = [{"type": "text", "text": piece} for piece in PIECES]


@pytest.mark.parametrize("answer", [
    {"type": "message", "role": "assistant", "content": BLOCKS},
    {"choices": [{"message": {"role": "assistant", "content": BLOCKS}}]},
    {"candidates": [{"content": {"parts": [{"text": piece} for piece in PIECES]}}]},
])  # fmt: skip
def test_parts_of_a_message_are_read_in_one_by_a_reader_and_by_the_patterns(answer: dict[str, object]) -> None:
    cleaner = Redactor(Settings())
    body = json.dumps(answer).encode()
    assert cleaner.quick(body + b" " * 300, "application/json", "") is None
    target = "/v1beta/models/m:generateContent" if "candidates" in answer else "/"
    found = extract(
        CapturedExchange(
            target=target, request=b'{"contents":[]}', response=cleaner.clean(body, "application/json", "")
        )
    )
    assert found.response == "Ask [redacted]"


@pytest.mark.parametrize(("body", "kept"), [
    ('0:"Ask al"\n0:"@x.org"\nd:{"finishReason":"stop"}\n', '0:"Ask [redacted]"\n0:""\nd:{"finishReason":"stop"}\n'),
    ('\x1e{"n":1,"say":"Ask al"}\n\x1e{"n":2,"say":"@x.org"}\n',
     '\x1e{"n":1,"say":"Ask [redacted]"}\n\x1e{"n":2,"say":""}\n'),
    ('{"id":"q","say":"al"}{"id":"q","say":"\\u0040x.org"}', '{"id":"q","say":"[redacted]"}{"id":"q","say":""}'),
    ('{\n"say": "al"\n}\n{\n"say": "@x.org"\n}', '{\n"say": "[redacted]"\n}\n{\n"say": ""\n}'),
    ('["al", "@x.org"]', '["[redacted]",""]'),
    ('[{"say":"al"},{"say":"@x.org"', '[{"say":"[redacted]"},{"say":""'),
    ('{"a":"al"}{"b":"@x.org, says \\"Al\\""}', '{"a":"[redacted]"}{"b":", says \\"Al\\""}'),
    ('say "one" and "two"', 'say "one" and "two"'),
    ("data: {}\n\n" * 30_001 + 'data: {"s":"al"}\n\ndata: {"s":"@x.org"}\n\n', None),
])  # fmt: skip
def test_pieces_in_a_shape_that_is_no_stream_of_events_are_put_together_too(body: str, kept: str | None) -> None:
    cleaner = Redactor(Settings())
    cleaned = cleaner.clean(body.encode(), "text/plain", "").decode()
    assert cleaned == kept or (kept is None and "al" not in cleaned[-60:] and "x.org" not in cleaned)
    assert kept is None or cleaner.quick(body.encode() + b"\n" * 300, "text/plain", "") is None


def test_strings_without_an_end_take_linear_time() -> None:
    started = process_time()
    assert mend_strings('x"' + '\\"' * 100_000 + "\n" + '"a' * 50_000, Texts(())).startswith('x"\\"')
    assert process_time() - started < 5


@pytest.mark.parametrize("piece", [4, 4000])
def test_of_a_stream_that_was_cut_the_end_may_be_torn_and_is_not_kept(piece: int) -> None:
    said = "x " * 1000 + "Ask al@x"
    pieces = [said[at : at + piece] for at in range(0, len(said), piece)]
    events = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]} for text in pieces]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b'data: {"id"'
    whole = json.loads(Redactor(Settings()).clean(body, "text/event-stream", "", cut=True))
    assert (whole["id"], whole["model"]) == ("c", "m")
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": said[:-256]}
