"""Lines of every format as conversations; whatever is malformed is shown, and nothing is lost or raises."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.web.datasets import Form, Row, render

PIXELS = base64.b64encode(b"\x89PNG" + bytes(12_000)).decode()
PICTURE = f"data:image/png;base64,{PIXELS}"
USER = {"role": "user", "content": "What is the weather in Paris?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def rows(line: Any) -> tuple[Row, ...]:
    return render(json.dumps(line).encode()).rows


def said(line: Any) -> list[tuple[str, str]]:
    return [(row.speaker, row.text) for row in rows(line)]


def test_chatml_with_tools_shows_calls_and_results_as_such() -> None:
    line = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            USER,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "19 °C"},
            {"role": "assistant", "content": "19 °C."},
        ],
        "tools": [TOOL],
    }
    found = rows(line)
    assert [(row.speaker, row.form, row.text) for row in found[1:]] == [
        ("system", Form.TEXT, "Be brief."),
        ("user", Form.TEXT, "What is the weather in Paris?"),
        ("assistant", Form.TEXT, "Let me see."),
        ("assistant", Form.CALL, 'weather({"city":"Paris"})'),
        ("tool", Form.RESULT, "19 °C"),
        ("assistant", Form.TEXT, "19 °C."),
    ]
    assert (found[0].form, found[0].marks) == (Form.TOOLS, ("offered: weather",))
    assert found[4].marks == ("id call_1",)
    assert found[5].marks == ("name weather", "answers call_1")
    assert all(row.taught for row in found)
    assert render(json.dumps(line).encode()).format == "chatml"


@pytest.mark.parametrize(
    ("member", "mark"),
    [({"weight": 0}, "not taught: weight 0"), ({"weight": 0.0}, "not taught: weight 0"),
     ({"train": False}, "not taught: train false")],
)  # fmt: skip
def test_turns_that_are_not_taught_say_so(member: dict[str, Any], mark: str) -> None:
    wrong = {"role": "assistant", "content": "Rain.", "tool_calls": [CALL], **member}
    found = rows({"messages": [USER, wrong, USER, {"role": "assistant", "content": "Sun.", "weight": 1}]})
    assert [(row.text, row.taught) for row in found] == [
        (USER["content"], True),
        ("Rain.", False),
        ('weather({"city":"Paris"})', False),
        (USER["content"], True),
        ("Sun.", True),
    ]
    assert [mark in row.marks for row in found] == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("part", "text", "shown"),
    [
        ({"type": "image_url", "image_url": {"url": PICTURE}}, "[picture, 12 KB]", True),
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
         "[picture at https://example.org/a.png]", False),
        ({"type": "image_url", "image_url": PICTURE}, "[picture, 12 KB]", True),
        ({"type": "image", "image": PICTURE}, "[picture, 12 KB]", True),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}},
         "[picture, 12 KB]", False),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2"}}, "[picture, 3 bytes]", False),
        ({"type": "image", "image": 'data:image/png;base64,"onerror='}, "[picture, 6 bytes]", False),
        ({"type": "input_audio", "input_audio": {"data": PIXELS * 100, "format": "wav"}}, "[sound, 1.2 MB]", False),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": PICTURE}}, "[file, 12 KB]", False),
        ({"type": "image"}, "[picture, without its data]", False),
    ],
)  # fmt: skip
def test_pictures_and_other_parts_are_told_by_kind_and_size(part: dict[str, Any], text: str, shown: bool) -> None:
    line = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}]}
    first, second = rows(line)
    assert (first.text, second.text, second.form) == ("Look:", text, Form.MEDIA)
    assert (second.picture is not None) is shown


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "Hm.", "content": "Yes."},
        {"thinking": "Hm.", "content": "Yes."},
        {"content": "<think>\nHm.\n</think>\n\nYes."},
        {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]},
    ],
)
def test_reasoning_stands_apart(message: dict[str, Any]) -> None:
    found = rows({"messages": [USER, {"role": "assistant", **message}]})[1:]
    assert [(row.form, row.text) for row in found] == [(Form.REASONING, "Hm."), (Form.TEXT, "Yes.")]


ANSWER = [{"role": "assistant", "content": "Sun."}]
HISTORY = [USER, {"role": "assistant", "content": "Rain."}, USER]


def test_prompt_and_completion_as_messages_teach_the_completion_only() -> None:
    line = {"prompt": HISTORY, "completion": ANSWER, "tools": [TOOL]}
    assert [row.taught for row in rows(line)] == [True, True, False, True, True]
    assert rows(line)[2].marks == ("not taught: part of the prompt",)
    assert render(json.dumps(line).encode()).format == "prompt_completion"


def test_the_other_formats() -> None:
    assert said({"prompt": "Two and two?", "completion": "Four."}) == [("user", "Two and two?"), ("assistant", "Four.")]
    alpaca = {"instruction": "And now?", "input": "x", "output": "Sun.", "system": "Brief.", "history": [["A?", "B."]]}
    assert said(alpaca) == [
        ("system", "Brief."), ("user", "A?"), ("assistant", "B."), ("user", "And now?"), ("user", "x"),
        ("assistant", "Sun."),
    ]  # fmt: skip
    dpo = rows({"prompt": [USER], "chosen": ANSWER, "rejected": [{"role": "assistant", "content": "Rain."}]})
    assert [(row.text, row.marks, row.taught) for row in dpo[1:]] == [
        ("Sun.", ("chosen",), True), ("Rain.", ("rejected",), False),
    ]  # fmt: skip
    for label, mark in ((True, "wanted"), (False, "not wanted")):
        kto = rows({"prompt": [USER], "completion": ANSWER, "label": label})
        assert (kto[1].text, kto[1].marks, kto[1].taught) == ("Sun.", (mark,), label)
    plain = rows({"prompt": "A?", "chosen": "B", "rejected": "C"})
    assert [(row.speaker, row.text) for row in plain] == [("user", "A?"), ("assistant", "B"), ("assistant", "C")]


def test_nvidia_shows_request_and_answer() -> None:
    line = {
        "timestamp": 1, "client_id": "shop", "workload_id": "chat",
        "request": {"model": "m", "messages": [USER], "tools": [TOOL]},
        "response": {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}}]},
    }  # fmt: skip
    found = rows(line)
    assert [(row.speaker, row.form) for row in found] == [
        ("tools", Form.TOOLS), ("user", Form.TEXT), ("assistant", Form.CALL),
    ]  # fmt: skip
    assert render(json.dumps(line).encode()).format == "nvidia"


def test_custom_and_former_calls_and_refusals() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "run", "input": "ls"}}, {"function": None}],
        "function_call": {"name": "old", "arguments": {"a": 1}},
        "refusal": "No.",
    }
    found = rows({"messages": [message]})
    assert [row.form for row in found] == [Form.TEXT, Form.CALL, Form.RAW, Form.CALL]
    assert (found[0].text, found[0].marks, found[1].text) == ("No.", ("refusal",), "run(ls)")
    assert found[3].text.startswith("old({")


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b"{}", b'{"messages": 3}', b'{"messages": [1, null, []]}',
     b'{"messages": [{"role": 1, "content": "x"}]}', b'{"prompt": null, "completion": 7, "label": "maybe"}',
     b'{"instruction": {}, "output": [], "history": [[1]]}', b'{"request": 1, "response": []}',
     b'{"request": {}, "response": {"choices": [1, {}]}}', b'{"prompt": 1, "chosen": 2, "rejected": 3}',
     b'{"messages": [], "tools": "not JSON"}', b'{"messages": [], "tools": [[], {"function": 3}]}',
     b'{"messages": [{"role": "user", "content": [1, {}, {"type": 3}, {"type": "text"}]}]}',
     b'{"messages": ' + b"[" * 600 + b"]" * 600 + b"}", b"[" * 100_000],
)  # fmt: skip
def test_what_is_malformed_is_shown_as_it_is(line: bytes) -> None:
    rendering = render(line)
    assert line in (b'{"messages": []}',) or rendering.rows
    assert all(isinstance(row.text, str) for row in rendering.rows)


def test_members_that_no_format_has_are_shown() -> None:
    line = {"messages": [{"role": "user", "content": "x", "mood": "blue"}], "split": "odd"}
    assert [(row.form, "blue" in row.text or "odd" in row.text) for row in rows(line)] == [
        (Form.TEXT, False), (Form.RAW, True), (Form.RAW, True),
    ]  # fmt: skip


LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab<", max_size=4)
)
NAMES = st.sampled_from(
    ["messages", "role", "content", "tool_calls", "function", "name", "arguments", "tools", "prompt", "completion",
     "chosen", "rejected", "label", "instruction", "output", "history", "request", "response", "choices", "message",
     "type", "text", "image_url", "url", "weight", "reasoning_content", "user", "assistant"]
)  # fmt: skip
JSON = st.recursive(LEAF | NAMES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5))


@given(st.dictionaries(NAMES, JSON, min_size=1))
def test_any_line_is_shown(line: dict[str, Any]) -> None:
    for row in render(json.dumps(line).encode()).rows:
        assert isinstance(row.text, str)
        assert all(isinstance(mark, str) for mark in row.marks)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text(min_size=1)), min_size=1))
def test_no_word_of_a_conversation_is_lost(turns: list[tuple[str, str]]) -> None:
    turns = [(role, text.encode("utf-8", "ignore").decode() or "x") for role, text in turns if "think" not in text]
    line = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert said(line) == turns
