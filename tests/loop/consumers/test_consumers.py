"""What those who train take, and what they refuse: by their libraries (extra `check`), and by their written rules."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.loop.consumers import CONSUMERS, Report, check, mistral, templates, trl
from proxy.loop.consumers.check import Consumer

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
PLAIN = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]}
PICTURE = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
        {"role": "assistant", "content": "A cat."},
    ]
}
SAME_TURN = [{"role": "assistant", "content": "So it is."}]


def called(arguments: Any = '{"city": "Lyon"}', **change: Any) -> dict[str, Any]:
    """A chat with a tool's call and its result."""
    call = {"id": "call_abc", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "The weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call], "weight": 0} | change,
        {"role": "tool", "tool_call_id": "call_abc", "content": "21"},
        {"role": "assistant", "content": "It is 21 degrees."},
    ]
    return {"messages": messages, "tools": [TOOL]}


def written(path: Path, *lines: Any) -> Path:
    file = path / "data.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def said(report: Report) -> list[str]:
    return sorted(report.findings)


def changed(line: dict[str, Any], at: int, **change: Any) -> dict[str, Any]:
    """`line` with another message; a value of None takes the member away."""
    copied = copy.deepcopy(line)
    message = copied["messages"][at]
    for name, value in change.items():
        if value is None:
            message.pop(name, None)
        else:
            message[name] = value
    return copied


@pytest.mark.parametrize("consumer", sorted(CONSUMERS))
def test_chats_with_tools_weights_and_pictures_are_taken(consumer: str, tmp_path: Path) -> None:
    report = check(written(tmp_path, *[PLAIN, called(), PICTURE] * 4), consumer)
    assert said(report) == []
    assert report.good
    assert (report.lines, report.refused) == (12, 0)


REFUSED: list[tuple[str, Any, str]] = [
    ("openai", "{", "the line is not JSON"),
    ("openai", [1], "the line is not a JSON object"),
    ("trl", {"text": "x"}, "the line is in no form that it reads"),
    ("mistral", {"prompt": "x", "completion": "y"}, "the line has no `messages`"),
    ("openai", {"prompt": "x", "completion": "y"}, "neither supervised"),
    ("openai", {"messages": []}, "there is no message"),
    ("openai", {"messages": ["x"]}, "a message is not an object"),
    ("openai", PLAIN | {"source": "x"}, "the top-level key 'source' is not known"),
    ("openai", changed(PLAIN, 1, reasoning_content="hm"), "the key 'reasoning_content' of a message is not known"),
    ("openai", changed(PLAIN, 0, role="human"), "the role 'human'"),
    ("openai", changed(PLAIN, 1, content=7), "neither text nor a list of parts"),
    ("openai", changed(PLAIN, 1, content=""), "says nothing and calls nothing"),
    ("openai", changed(PLAIN, 1, weight=0.5), "a weight is 0.5; it can be 0 or 1"),
    ("openai", {"messages": [PLAIN["messages"][0] | {"weight": 1}, PLAIN["messages"][1]]}, "`weight` stands on"),
    ("openai", {"messages": [PLAIN["messages"][0], PLAIN["messages"][1] | {"weight": 0}]}, "all weights are 0"),
    ("openai", {"messages": PLAIN["messages"][:1]}, "the last message is not the assistant's"),
    ("openai", called({"city": "Lyon"}), "the arguments of a call are not JSON text"),
    ("openai", called("{"), "the arguments of a call are not JSON"),
    ("openai", called('"Lyon"'), "the arguments of a call are not a JSON object"),
    ("openai", changed(called(), 2, tool_call_id="other"), "a tool's message answers no call before it"),
    ("openai", {"messages": [*called()["messages"][:2], *SAME_TURN], "tools": [TOOL]}, "has no result before the next"),
    ("openai", called() | {"tools": [{"type": "function", "function": {"name": "f"}}]}, "not among `tools`"),
    ("openai", called() | {"tools": "f"}, "`tools` is not a list"),
    ("openai", called() | {"tools": [TOOL, {"name": "f"}]}, "a tool is not {"),
    ("openai", called() | {"tools": [TOOL, {"function": {"name": "f", "parameters": 1}}]}, "are not a JSON schema"),
    ("openai", called() | {"tools": [TOOL, {"function": {"name": "f g"}}]}, "has other characters"),
    ("openai", called(tool_calls=[{"function": {"name": "get_weather", "arguments": "{}"}}]), "a call has no id"),
    ("openai", called(tool_calls=[{"id": "call_abc", "function": {"arguments": "{}"}}]), "a call does not name a tool"),
    ("openai", changed(PICTURE, 0, content=[{"type": "input_audio"}]), "has the type 'input_audio'"),
    (
        "openai",
        changed(PICTURE, 0, content=[{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}]),
        "a picture is neither JPEG, PNG nor WebP",
    ),
    ("openai", changed(PICTURE, 0, content=PICTURE["messages"][0]["content"] * 11), "more than 10 pictures"),
    ("mistral", called(tool_calls=None), "a tool's message answers no call before it"),
    ("mistral", {"messages": PLAIN["messages"][:1]}, "Mistral's validator: Expected last role"),
    ("trl", called("{"), "the arguments of a call are not JSON"),
]


@pytest.mark.parametrize(("consumer", "line", "message"), REFUSED)
def test_what_is_refused_is_named(consumer: str, line: Any, message: str, tmp_path: Path) -> None:
    report = check(written(tmp_path, *[PLAIN] * 10, line), consumer)
    found = [finding for finding in report.findings.values() if message in finding.message]
    assert found, said(report)
    assert (found[0].count, found[0].lines) == (1, [11])
    assert report.refused == 1
    assert not report.good


def test_preferences_go_to_openai_as_the_trainer_uploads_them(tmp_path: Path) -> None:
    asked, good, bad = PLAIN["messages"][0], PLAIN["messages"][1], {"role": "assistant", "content": "Go away."}
    pair = {"prompt": [asked], "chosen": [good], "rejected": [bad]}
    uploaded = {"input": {"messages": [asked]}, "preferred_output": [good], "non_preferred_output": [bad]}
    assert check(written(tmp_path, *[pair] * 10), "openai").good
    assert check(written(tmp_path, *[uploaded] * 10), "openai").good
    assert check(written(tmp_path, *[pair] * 10), "trl").good


@pytest.mark.parametrize("lines", [0, 9])
def test_a_file_may_be_too_short(lines: int, tmp_path: Path) -> None:
    messages = said(check(written(tmp_path, *[PLAIN] * lines), "openai"))
    assert f"{lines} lines are too few: OpenAI takes 10 and more" in messages
    assert ("the file is empty" in messages) == (lines == 0)


@pytest.mark.parametrize(
    ("template", "arguments", "message"),
    [
        ("qwen3", '{"city": "Lyon"}', None),
        ("llama3_1", '{"city": "Lyon"}', "encodes the arguments of a call twice"),
        ("qwen3_6", '{"city": "Lyon"}', "fails"),
        ("qwen3_6", {"city": "Lyon"}, None),
        ("lfm2", '{"city": "Lyon"}', "loses a call"),
    ],
)
def test_templates_that_fail_or_lose_something_are_found(
    template: str, arguments: Any, message: str | None, tmp_path: Path
) -> None:
    if template not in templates.shipped():
        pytest.skip("this TRL ships no such template")
    messages = said(check(written(tmp_path, called(arguments)), "trl", template))
    assert [message in one for one in messages] == [True] if message else messages == []


def test_a_model_s_own_template_is_used(tmp_path: Path) -> None:
    lossy = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"chat_template": lossy}))
    (tmp_path / "own.jinja").write_text(lossy)
    file = written(tmp_path, PLAIN)
    for name in ("model", "own.jinja"):
        report = check(file, "trl", str(tmp_path / name))
        assert said(report) == [f"template {name} loses the answer's text"]
    with pytest.raises(ConfigError, match="no file, no folder of a model"):
        check(file, "trl", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="v99"):
        check(file, "mistral", "v99")


def test_axolotl_makes_objects_of_arguments(tmp_path: Path) -> None:
    file = written(tmp_path, called())
    assert check(file, "axolotl", "llama3_1").good
    assert not check(file, "trl", "llama3_1").good


def test_mistrals_older_tokenizers_have_ids_of_nine_letters(tmp_path: Path) -> None:
    file = written(tmp_path, called())
    assert check(file, "mistral").good
    (message,) = said(check(file, "mistral", "v3"))
    assert "length of 9" in message


def test_weights_are_none_for_trl(tmp_path: Path) -> None:
    assert any("reads no weights" in note for note in check(written(tmp_path, called()), "trl").notes)
    assert not any("reads no weights" in note for note in check(written(tmp_path, PLAIN), "trl").notes)


def test_without_the_libraries_the_written_rules_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise templates.PackageNotFoundError(name)

    for module in (mistral, trl):
        monkeypatch.setattr(module, "version", missing)
    monkeypatch.setattr(templates, "find_spec", lambda _: None)
    bad = written(tmp_path, called("{"))
    for consumer in ("trl", "axolotl", "mistral"):
        report = check(bad, consumer)
        assert said(report) == ["the arguments of a call are not JSON"]
        assert "ratchet-proxy[check]" in " ".join(report.notes)


MESSY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["user", "assistant", "tool", "text", "{}", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "function", "name", "arguments", "id", "type", "image_url",
                         "url", "messages", "weight", "tool_call_id"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@cache
def asked() -> list[Consumer]:
    """Every consumer, made once; one of them loads a library that takes a second."""
    return [make(None) for make in CONSUMERS.values()]


FIELDS = ("messages", "tools", "prompt", "completion", "chosen", "rejected", "label", "input", "preferred_output")


@given(line=st.dictionaries(st.sampled_from([*FIELDS, "non_preferred_output"]), MESSY, max_size=6))
def test_nothing_in_a_line_stops_a_check(line: dict[str, Any]) -> None:
    for consumer in asked():
        assert all(isinstance(message, str) for message in consumer.problems(line))
