"""What a chat UI asks for itself is told from what its users ask: by what it says, and by how its templates read."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.scoring import ScoringConfig
from proxy.config.serving import TASK_PATTERNS, CaptureConfig
from proxy.ingest.interpret import Interpreter
from proxy.ingest.tasks import Tasks
from proxy.store.ingest.facts import flags_of
from proxy.store.tables.values import NewRecord, RecordFlag
from tests.harness.frames import frame_of

ID = "0190a0a0b0b07abc8def0123456789ab"
JSON = {"content-type": "application/json"}
ANSWER = orjson.dumps({
    "id": "chatcmpl-12345", "usage": {"prompt_tokens": 9, "completion_tokens": 1},
    "choices": [{"message": {"role": "assistant", "content": "Screws"}, "finish_reason": "stop"}],
})  # fmt: skip
STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"4"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
CHAT = "<chat_history>\nUSER: Which screws?\nASSISTANT: These.\n</chat_history>"
TITLE = f'### Task:\nName this chat.\n### Output:\nJSON format: {{ "title": "…" }}\n### Chat History:\n{CHAT}'
TAGS = f'### Task:\nSort it in.\n\n### Output:\nJSON format: {{ "tags": ["tag1"] }}\n\n### Chat History:\n{CHAT}'
FOLLOW_UPS = f"### Task:\nSuggest what to ask next.\n### Chat History:\n{CHAT}"
QUERIES = '### Task:\nFind words.\n\n### Output:\nStrictly return in JSON format: \n{\n  "queries": ["query1"]\n}\n'
PLAIN_TITLE = f"### Task:\nName this chat.\n### Output:\nReturn only the title.\n### Chat History:\n{CHAT}"
COMPLETE = f"### Task:\nGo on with the text.\n---\n### Context:\n{CHAT}\n<type>General</type>\n<text>Which scr</text>\n"
EMOJI = "Your task is to reflect the speaker's likely facial expression through a fitting emoji. Message: ```Hi```"
TOOLS = (
    "Available Tools: [{}]\n\nYour task is to choose and return the correct tool(s) from the list of available tools."
)
ANALYSE = ("Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise title "
           "in the detected language (5 words or less, no punctuation)\n\nUser: Which screws?\nAI: These.")  # fmt: skip
PROVIDE = ("Provide a concise, 5-word-or-less title for the conversation, using title case conventions. Only return "
           "the title itself.\n\nConversation:\nUser: Which screws?\nAI: These.")  # fmt: skip
OLDER = "Here is the query:\nWhich screws?\n\nCreate a concise, 3-5 word phrase with an emoji as a title for it."
WANTS_TITLE = {"type": "object", "properties": {"title": {"type": "string"}, "language": {"type": "string"}}}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(*messages: Any, **more: Any) -> dict[str, Any]:
    turns = [user(message) if isinstance(message, str) else message for message in messages]
    return {"model": "m", "messages": turns, **more}


def tool(properties: Any, name: str = "f") -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}]


def schema(properties: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "f", "schema": {"properties": properties}}}


def record(body: Any, headers: dict[str, str] | None = None, *, capture: Any = None, **changes: Any) -> NewRecord:
    interpreter = Interpreter(CaptureConfig(**(capture or {})), ScoringConfig())
    response = changes.pop("response", ANSWER)
    return interpreter.record(frame_of(ID, orjson.dumps(body), response, rh=JSON | (headers or {}), **changes))


def kind(body: Any, headers: dict[str, str] | None = None, **changes: Any) -> str:
    return record(body, headers, **changes).kind


SYSTEM = {"role": "system", "content": "Be brief."}
TEMPLATES = {
    "title": says(TITLE, stream=False),
    "title with a system prompt": says(SYSTEM, TITLE),
    "title with a developer's": says({"role": "developer", "content": "Be brief."}, TITLE),
    "title that is no JSON": says(PLAIN_TITLE),
    "white space first": says("\n  " + TITLE),
    "parts": says({"role": "user", "content": [{"type": "text", "text": TITLE}]}),
    "tags": says(TAGS), "follow-ups": says(FOLLOW_UPS), "queries": says(QUERIES), "autocompletion": says(COMPLETE),
    "emoji": says(EMOJI, max_tokens=4),
    "function selection": says({"role": "system", "content": TOOLS}, "Query: screws"),
    "a long list of tools": says({"role": "system", "content": TOOLS.replace("{}", "{}," * 20_000)}, "Query: screws"),
    "a long chat": says(FOLLOW_UPS.replace("These.", "These. " * 9_000)),
    "LibreChat, structured": says(ANALYSE), "LibreChat, completion": says(PROVIDE), "older": says(OLDER),
    "LibreChat's tool": says("Invented.", tools=tool(WANTS_TITLE["properties"])),
    "LibreChat's function": says("Invented.", functions=[{"name": "f", "parameters": WANTS_TITLE}]),
    "LibreChat's schema": says("Invented.", response_format=schema(WANTS_TITLE["properties"])),
    "Anthropic's tool": says("Invented.", tools=[{"name": "f", "input_schema": WANTS_TITLE}]),
    "a tool for the title alone": says("Of this conversation", tools=tool({"title": {}})),
}  # fmt: skip
ORDINARY = {
    "a heading": says("### Task:\nExplain how a screw is made."),
    "a heading and JSON": says('### Task:\nFind the names in this letter.\n\nJSON format: {"names": []}'),
    "a heading, JSON and a title": says('### Task:\nGive the book\'s title. JSON format: {"title": ""}'),
    "a heading, output and other JSON": says('### Task:\nSort.\n### Output:\nJSON format: {"screws": []}'),
    "about a chat history": says(f"What does this mean?\n{CHAT}"),
    "a task further down": says(f"Is this prompt good?\n### Task:\nName this chat.\n{CHAT}"),
    "streamed": says(TITLE, stream=True),
    "in a conversation": says("Hi", {"role": "assistant", "content": "Hello."}, TITLE),
    "two questions": says("Hi", TITLE),
    "before a tool's result": says(TITLE, {"role": "tool", "content": "3", "tool_call_id": "c"}),
    "prefilled": says(TITLE, {"role": "assistant", "content": "{"}),
    "a title": says("Give my story a title of 5 words or less."),
    "a title of a conversation": says("Write a title for my podcast conversation in 5 words or less, please."),
    "a transcript": says("Analyze this conversation:\n\nUser: Hi\nAI: Hello."),
    "an emoji": says("Which emoji fits the speaker's likely facial expression?"),
    "tools": says("Available Tools: hammer, saw. Which do I need?"),
    "a tool with more": says("Invented.", tools=tool({"title": {}, "language": {}, "year": {}})),
    "two tools": says("Invented.", tools=tool(WANTS_TITLE["properties"]) + tool({"x": {}})),
    "a title from text": says("Which book is this?", tools=tool({"title": {}})),
    "a schema of a book": says("Which book is this?", response_format=schema({"title": {}, "author": {}})),
    "a schema without fields": says("Which book is this?", response_format={"type": "json_object"}),
    "strange tools": says("Invented.", tools=[7]),
    "metadata": says("Hi", metadata={"task": "summarize_contract", "user_id": "ann"}),
    "metadata that is text": says("Hi", metadata="title_generation"),
    "plain": says(SYSTEM, "Which screws?"),
    "no messages": {"model": "m", "messages": []},
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_tasks(name: str) -> None:
    found = record(TEMPLATES[name])
    assert found.kind == "task"
    assert RecordFlag.SAMPLE not in flags_of(found)
    assert found.body is not None
    assert (found.body.response_text, found.completion_tokens, found.quality is None) == ("Screws", 1, False)
    assert found.aliases == ("chatcmpl-12345",)


@pytest.mark.parametrize("name", ORDINARY)
def test_what_only_looks_like_one_is_none(name: str) -> None:
    assert kind(ORDINARY[name]) == "chat"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_streamed_answer_and_the_switch_leave_it_to_what_the_ui_says(name: str) -> None:
    stream = {"response": STREAM, "sh": {"content-type": "text/event-stream"}}
    assert kind(TEMPLATES[name], **stream) == "chat"
    assert kind(TEMPLATES[name], capture={"task_patterns": ()}) == "chat"
    assert kind(TEMPLATES[name], {"x-openwebui-task": "title_generation"}, **stream) == "task"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-openwebui-task": "title_generation"}, "task"),
        ({"x-openwebui-task": "a later version's"}, "task"),
        ({"x-openwebui-task": ""}, "chat"),
        ({"x-openwebui-task": "  "}, "chat"),
        ({"x-openwebui-task": "{{TASK}}"}, "chat"),
        ({"x-openwebui-task": " {{ TASK }} "}, "chat"),
        ({"x-openwebui-message-id": "5e55a6e0-0000-4000-8000-0000000000d1"}, "chat"),
        ({"x-ui-task": "title"}, "chat"),
    ],
)
def test_a_header_is_proof_unless_nobody_filled_it(headers: dict[str, str], expected: str) -> None:
    assert kind(says("Which screws?", stream=True), headers) == expected


def test_other_headers_can_be_named() -> None:
    assert kind(says("Hi"), {"x-ui-task": "title"}, capture={"task_headers": ("X-UI-Task",)}) == "task"
    assert kind(says("Hi"), {"x-openwebui-task": "title"}, capture={"task_headers": ()}) == "chat"


@pytest.mark.parametrize("member", ["task", "task_name"])
@pytest.mark.parametrize("name", ["title_generation", "tags_generation", "autocomplete_generation", "function_calling"])
def test_metadata_with_the_name_of_a_task_is_proof(member: str, name: str) -> None:
    assert kind(says("Hi", {"role": "assistant", "content": "Hello"}, "Hi", metadata={member: name})) == "task"


def test_a_model_that_nothing_else_uses_is_proof() -> None:
    capture = {"task_models": ("titles",)}
    assert kind(says("Hi") | {"model": "titles"}, capture=capture) == "task"
    assert kind(says("Hi"), capture=capture) == "chat"
    gemini = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    assert kind(gemini, p="/v1beta/models/titles:generateContent", capture=capture) == "task"


def test_the_models_own_name_in_the_answer_is_not_what_was_asked_for() -> None:
    answer = orjson.dumps(orjson.loads(ANSWER) | {"model": "titles"})
    assert kind(says("Hi"), response=answer, capture={"task_models": ("titles",)}) == "chat"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/responses", {"model": "m", "input": TITLE}),
        ("/v1/messages", says(TITLE, max_tokens=9)),
        ("/api/chat", says(TITLE, stream=False)),
        ("/v1/completions", {"model": "m", "prompt": TITLE}),
        ("/somewhere", {"query": TITLE}),
    ],
)
def test_whatever_the_shape(target: str, body: Any) -> None:
    assert kind(body, p=target, response=b"{}") == "task"
    assert kind(body, p=target, response=b"{}", capture={"task_patterns": ()}) != "task"


def test_own_patterns_are_found_anywhere_and_each_by_its_own_rules() -> None:
    def found(pattern: str, text: str) -> bool:
        return kind(says(text), capture={"task_patterns": (*TASK_PATTERNS, pattern)}) == "task"

    assert found("name this chat", "Please name this chat")
    assert found(r"\A\s*Benenne|Titel\b", "Der Titel, bitte")
    assert found(r"(?i)\A\s*benenne", "BENENNE")
    assert not found(r"\A\s*benenne", "BENENNE")
    assert found(r"\A\s*(ab)+c", "ababc")
    assert not found(r"\A\s*benenne", "Was heißt benenne?")
    assert found(r"\A\s*[|(]x\|", "(x|")


def test_a_cut_request_is_known_by_its_header_alone() -> None:
    half = {"rsha": "0" * 64}
    assert kind(says(TITLE), {"x-openwebui-task": "title_generation"}, **half) == "task"
    assert kind([TITLE], **half) != "task"


@given(
    text=st.text(), split=st.sampled_from(["", "### Task:\n", "Available Tools: ", "Here is the query:", "Provide "])
)
def test_nothing_that_lacks_the_further_marks_is_taken(text: str, split: str) -> None:
    marks = ("<chat_history>", "JSON format", "Your task is", "3-5 word phrase", "words")
    if not any(mark in text for mark in marks):
        assert kind(says(split + text)) == "chat"


@pytest.mark.parametrize(
    "filler", ["<chat_histor", "### Output:\nJSON format: {", "title 5 words or less conversation\n", " \n"]
)
def test_no_template_takes_long_over_a_long_text(filler: str) -> None:
    """With steps in the square of the text's length, the test's time limit would end it."""
    tasks = Tasks(CaptureConfig())
    for start in ("### Task:\n", "Available Tools: ", "Provide ", "Here is the query:"):
        messages = ({"role": "user", "content": start + filler * (10_000 // len(filler))},)
        for _ in range(200):
            assert not tasks.includes({}, {}, messages, query=None, model=None, streamed=False)


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("capture.task_patterns: '(' is not a regular expression")):
        Tasks(CaptureConfig(task_patterns=("(",)))
