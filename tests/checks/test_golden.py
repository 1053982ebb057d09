"""The golden file: what is wrong with it is said with line and field, and what it expects is held."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from policies.comparison import Answer
from policies.conversation import ToolCall
from proxy.checks.expect import Expectation
from proxy.checks.golden import CHAT, read_golden
from proxy.errors import ConfigError

ASK = {"messages": [{"role": "user", "content": "Hello"}]}


def written(folder: Path, *cases: Any) -> Path:
    path = folder / "golden.jsonl"
    path.write_text("\n".join(case if isinstance(case, str) else json.dumps(case) for case in cases))
    return path


def test_cases_are_read(tmp_path: Path) -> None:
    other = {"target": "/v1/responses", "body": {"input": "Hello"}}
    path = written(
        tmp_path,
        {"name": "greets", "request": ASK, "expect": {"contains": "Hi"}, "tags": ["a", "b", "a"]},
        "",
        {"request": other, "expect": {"rubric": "is polite"}},
    )
    found = read_golden(path)
    first, second = found.lines
    assert (first.name, first.item, first.tags, first.asked.target) == ("greets", "golden:1", ("a", "b"), CHAT)
    assert json.loads(first.asked.body) == ASK
    assert (second.name, second.item, second.asked.target) == ("line 3", "golden:3", "/v1/responses")
    assert json.loads(second.asked.body) == {"input": "Hello"}
    assert found.needs_judge
    assert read_golden(path).fingerprint == found.fingerprint
    assert read_golden(written(tmp_path, {"request": ASK, "expect": {"equals": "x"}})).fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not a JSON object"),
        (
            {"request": ASK, "expect": {"contains": "x"}, "tag": 1},
            "line 1: tag: there is no such member; a case has name",
        ),
        ({"expect": {"contains": "x"}}, "line 1: request: missing; give a chat body"),
        ({"request": {"model": "m"}, "expect": {"contains": "x"}}, "line 1: request.messages: not a list of turns"),
        (
            {"request": {"target": "v1", "body": {}}, "expect": {"contains": "x"}},
            "line 1: request.target: 'v1' is not a path",
        ),
        ({"request": {"target": "/v1"}, "expect": {"contains": "x"}}, "line 1: request.body: not a JSON object"),
        ({"request": ASK}, "line 1: expect: missing; give at least one of contains, lacks"),
        (
            {"request": ASK, "expect": {"contain": "x"}},
            "line 1: expect.contain: there is no such check; there are contains",
        ),
        ({"request": ASK, "expect": {"contains": [1]}}, "line 1: expect.contains: neither a text nor a list of texts"),
        ({"request": ASK, "expect": {"equals": 4}}, "line 1: expect.equals: not a text"),
        ({"request": ASK, "expect": {"regex": "("}}, 'line 1: expect.regex: "(" is not a regular expression'),
        ({"request": ASK, "expect": {"regex": "(?=a)b"}}, 'line 1: expect.regex: "(?=a)b" '),
        (
            {"request": ASK, "expect": {"json_schema": {"type": "obj"}}},
            "line 1: expect.json_schema: 'obj' is not valid",
        ),
        ({"request": ASK, "expect": {"json_schema": 4}}, "line 1: expect.json_schema: not a JSON schema"),
        *(
            (
                {"request": ASK, "expect": {"json_schema": {"properties": {"default": {"$ref": reference}}}}},
                f'line 1: expect.json_schema: $ref "{reference}" leads out of the schema, and nothing is fetched',
            )
            for reference in ("https://example.com/a.json#/b", "file:///etc/passwd", "other.json", "//169.254.169.254")
        ),
        ({"request": ASK, "expect": {"json_schema": {"items": {"pattern": "(?=a)b"}}}}, "line 1: expect.json_schema: "),
        ({"request": ASK, "expect": {"tool_call": {"nam": 1}}}, "line 1: expect.tool_call: write the name of a tool"),
        (
            {"request": ASK, "expect": {"tool_call": {"name": "a", "arguments": 1}}},
            "line 1: expect.tool_call.arguments: ",
        ),
        ({"request": ASK, "expect": {"contains": "x"}, "tags": "a"}, "line 1: tags: not a list of texts"),
        ({"request": ASK, "expect": {"contains": "x"}, "name": ""}, "line 1: name: not a text"),
        ({"request": ASK, "expect": {"contains": "x"}, "name": "a\ud800"}, "line 1: half a surrogate pair"),
        ({"request": ASK, "expect": {"contains": "x"}, "tags": ["\udfff"]}, "line 1: half a surrogate pair"),
        ({"request": ASK, "expect": {"regex": [], "rubric": None}}, "line 1: expect: nothing is expected; give"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, case: Any, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_golden(written(tmp_path, case))
    assert complaint in str(raised.value)
    assert str(raised.value).startswith("checks.golden: ")


def test_null_is_as_good_as_nothing(tmp_path: Path) -> None:
    """Programs that write such files say null where there is no name or tag."""
    case = {"name": None, "request": ASK, "expect": {"contains": "x", "regex": None}, "tags": None}
    [line] = read_golden(written(tmp_path, case)).lines
    assert (line.name, line.tags) == ("line 1", ())


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    twice = {"name": "a", "request": ASK, "expect": {"contains": "x"}}
    with pytest.raises(ConfigError) as raised:
        read_golden(written(tmp_path, "{", twice, twice, "3"))
    assert [line.strip().split(":")[0] for line in str(raised.value).splitlines()[1:]] == ["line 1", "line 4", "line 3"]
    with pytest.raises(ConfigError, match="it has no cases"):
        read_golden(written(tmp_path, ""))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_golden(tmp_path / "nowhere.jsonl")


def said(words: str, *calls: tuple[str, str]) -> Answer:
    return Answer(text=words, words=words, calls=tuple(ToolCall(name=name, arguments=text) for name, text in calls))


WEATHER = {"name": "weather", "arguments": {"city": "Ulm"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("expect", "answer", "complaint"),
    [
        ({"contains": ["30", "days"]}, said("within 30 days"), None),
        ({"contains": ["30", "days"]}, said("within 30"), 'does not contain "days"'),
        ({"lacks": "sorry"}, said("so sorry"), 'contains "sorry"'),
        ({"equals": "42"}, said(" 42\n"), None),
        ({"equals": "42"}, said("43"), 'is not "42"'),
        ({"regex": r"(?i)\brefund\b"}, said("A REFUND is due"), None),
        ({"regex": r"^\d+$"}, said("none"), r"does not match ^\d+$"),
        ({"json_schema": SCHEMA}, said('{"a": "xy"}'), None),
        ({"json_schema": SCHEMA}, said('{"a": "secret"}'), "does not fit the schema: a fails pattern"),
        ({"json_schema": SCHEMA}, said("{}"), "does not fit the schema: the whole fails required"),
        ({"json_schema": SCHEMA}, said("text"), "is not JSON"),
        ({"json_schema": {"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}}}, said("4"), None),
        ({"json_schema": {"$id": "https://a.b/c", "items": {"$ref": "https://a.b/c"}}}, said("[[]]"), None),
        ({"json_schema": {"const": {"$ref": "https://a.b/c"}}}, said('{"$ref": "https://a.b/c"}'), None),
        ({"json_schema": {"properties": {"$ref": {"type": "number"}}}}, said('{"$ref": 4}'), None),
        (
            {"json_schema": {"patternProperties": {"^n": {"type": "number"}}}},
            said('{"n1": "1"}'),
            "does not fit the schema: n1 fails type",
        ),
        ({"json_schema": {"$ref": "#/$defs/nowhere"}}, said("{}"), "cannot be held against the schema"),
        ({"tool_call": "weather"}, said("", ("weather", "{}")), None),
        ({"tool_call": "weather"}, said("It rains."), "does not call weather; it calls no tool"),
        ({"tool_call": WEATHER}, said("", ("weather", '{"city": "Ulm", "days": 1}')), None),
        (
            {"tool_call": WEATHER},
            said("", ("weather", '{"city": "Bonn"}')),
            "does not call weather as expected; it calls weather",
        ),
        (
            {"tool_call": WEATHER},
            said("", ("weather", "no JSON")),
            "does not call weather as expected; it calls weather",
        ),
        ({"contains": "x"}, Answer(failed="HTTP 500"), "there was no answer"),
    ],
)
def test_what_is_expected_holds_or_is_named(expect: dict[str, Any], answer: Answer, complaint: str | None) -> None:
    found = Expectation.of(expect).complaints(answer)
    if complaint is None:
        assert found == ()
    else:
        assert len(found) == 1
        assert found[0].startswith(complaint)


def test_a_complaint_is_short_whatever_the_model_calls() -> None:
    calls = [("n" * 100_000, "{}"), *((f"t{at}", "{}") for at in range(100_000))]
    (complaint,) = Expectation.of({"tool_call": "weather"}).complaints(said("", *calls))
    assert len(complaint) < 200
    assert complaint.endswith("…, t0, t1, t2, t3, and more")
    schema = {"additionalProperties": {"type": "number"}}
    (complaint,) = Expectation.of({"json_schema": schema}).complaints(said(json.dumps({"n" * 100_000: "x"})))
    assert len(complaint) < 200


def test_no_pattern_holds_the_process() -> None:
    """Python's own engine takes years for this one."""
    hostile = said(json.dumps({"a": "a" * 200_000}))
    started = time.monotonic()
    for expect in ({"regex": "(a+)+$b"}, {"json_schema": {"properties": {"a": {"pattern": "(a+)+$b"}}}}):
        assert Expectation.of(expect).complaints(hostile)
    assert time.monotonic() - started < 20
