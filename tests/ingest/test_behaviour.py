"""How an answer behaves and which tags its request has, as the record keeps it."""

from typing import Any

import orjson
import pytest

from policies.behaviour import Behaviour
from policies.scoring import ScoringConfig
from proxy.config.serving import CaptureConfig
from proxy.ingest.behaviour import LANGUAGE_EVERY, compares_languages
from proxy.ingest.interpret import Interpreter
from proxy.store.tables.values import NewRecord
from tests.harness.frames import frame_of

LOOKED_AT = "0190a0a0b0b07abc8def012345670000"
PASSED_OVER = "0190a0a0b0b07abc8def012345670001"
WEATHER = [{"type": "function", "function": {"name": "weather"}}]
ENGLISH = "What is the weather in the north of the country, and is it going to be warm for the rest of the week?"
GERMAN = "Das Wetter ist im Norden des Landes nicht so warm wie im Süden, und es wird mit dem Wind noch kälter."


def record(
    answer: dict[str, Any],
    *,
    asked: str = "2+2?",
    finish: str = "stop",
    request: dict[str, Any] | None = None,
    capture: dict[str, Any] | None = None,
    record_id: str = LOOKED_AT,
    scoring: bool = True,
    **facts: Any,
) -> NewRecord:
    ask = {"model": "m", "messages": [{"role": "user", "content": asked}]} | (request or {})
    said = {"choices": [{"message": {"role": "assistant"} | answer, "finish_reason": finish}]}
    interpreter = Interpreter(CaptureConfig(**(capture or {})), ScoringConfig(enabled=scoring))
    return interpreter.record(frame_of(record_id, orjson.dumps(ask), orjson.dumps(said), **facts))


def calls(name: str) -> dict[str, Any]:
    return {
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}],
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record({"content": "4"}), 0),
        (record({"content": "I'm sorry, but I can't help with that."}), Behaviour.DECLINED),
        (record({"content": "It is"}, finish="length"), Behaviour.TRUNCATED),
        (record({"content": "Four."}, request={"response_format": {"type": "json_object"}}), Behaviour.MALFORMED),
        (record(calls("weather"), request={"tools": WEATHER}), 0),
        (record(calls("stocks"), request={"tools": WEATHER}), Behaviour.MALFORMED),
        (record(calls("stocks")), 0),
        (record({"content": "It is"}, finish="length", scoring=False), Behaviour.TRUNCATED),
    ],
)  # fmt: skip
def test_what_an_answer_does_is_a_bit_each(found: NewRecord, expected: int) -> None:
    assert found.behaviour == expected


def test_only_an_answer_behaves() -> None:
    for nothing in (
        record({"content": "4"}, st=503),
        record({"content": "4"}, out=1),
        record({"content": "4"}, st=404),
    ):
        assert (nothing.behaviour, nothing.answer_chars) == (None, None)
    assert record({"content": "four"}).answer_chars == 4
    cut = record({"content": "four"}, ssha="00" * 32)
    assert cut.answer_chars is None, "how long it would have been, nobody knows"


def test_languages_are_compared_in_some_records_of_experiments() -> None:
    both = Behaviour.LANGUAGES | Behaviour.OTHER_LANGUAGE
    assert record({"content": GERMAN}, asked=ENGLISH, exp=1).behaviour == both
    assert record({"content": ENGLISH}, asked=ENGLISH, exp=1).behaviour == Behaviour.LANGUAGES
    assert record({"content": "4"}, asked=ENGLISH, exp=1).behaviour == 0, "one of them is not known"
    assert record({"content": GERMAN}, asked=ENGLISH, exp=None).behaviour == 0
    assert record({"content": GERMAN}, asked=ENGLISH, exp=1, record_id=PASSED_OVER).behaviour == 0
    drawn = sum(compares_languages(f"{number:032x}") for number in range(1 << 12))
    assert drawn == (1 << 12) // LANGUAGE_EVERY


TAGS = {"tag_headers": ("X-Plan",), "tag_fields": ("/metadata/feature", "/metadata/beta", "/metadata/n")}


@pytest.mark.parametrize(
    ("headers", "metadata", "expected"),
    [
        ({}, {}, None),
        ({"x-plan": "free"}, {}, {"x-plan": "free"}),
        ({"x-plan": " "}, {"feature": None, "beta": [1]}, None),
        ({}, {"feature": "search", "beta": True, "n": 3},
         {"metadata.feature": "search", "metadata.beta": "true", "metadata.n": "3"}),
        ({"x-plan": "a" * 99}, {"feature": "a\n\x00b"}, {"x-plan": "a" * 64, "metadata.feature": "a \\x00b"}),
        ({"x-plan": "[redacted]"}, {}, None),
    ],
)  # fmt: skip
def test_tags_are_what_the_configured_headers_and_fields_say(
    headers: dict[str, str], metadata: dict[str, Any], expected: dict[str, str] | None
) -> None:
    rh = {"content-type": "application/json"} | headers
    assert record({"content": "4"}, request={"metadata": metadata}, capture=TAGS, rh=rh).tags == expected
    assert record({"content": "4"}, request={"metadata": metadata}, rh=rh).tags is None
