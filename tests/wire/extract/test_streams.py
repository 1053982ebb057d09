"""Streams of every kind: whether they failed, came to their end, could be read, and when their first word was there."""

import json
import time
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract import CapturedExchange, Extraction, Pointers, Streamed, extract, read_stream
from proxy.wire.extract.framing import framing_of

SSE, LINES = "text/event-stream", "application/x-ndjson"
ASK: dict[str, tuple[str, bytes]] = {
    "chat": ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"hi"}]}'),
    "completions": ("/v1/completions", b'{"prompt":"hi"}'),
    "messages": ("/v1/messages", b'{"messages":[{"role":"user","content":"hi"}]}'),
    "responses": ("/v1/responses", b'{"input":"hi"}'),
    "ollama": ("/api/chat", b'{"messages":[{"role":"user","content":"hi"}]}'),
    "kserve": ("/v2/models/m/generate_stream", b'{"text_input":"hi"}'),
    "own": ("/own", b'{"q":"hi"}'),
}


def chat(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more


def text(piece: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": piece, "finish_reason": finish}]}


def sse(*events: Any, end: str = "\n\n") -> str:
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}{end}" for event in events)


def named(*events: dict[str, Any]) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def lines(*events: Any) -> str:
    return "".join(f"{json.dumps(event)}\n" for event in events)


def call(kind: str, body: str | bytes, content_type: str = SSE, *, cut: bool = False, **more: Any) -> Extraction:
    target, request = ASK[kind]
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    exchange = CapturedExchange(target=target, request=request, request_type="application/json", response=raw,
                                response_type=content_type, response_cut=cut)  # fmt: skip
    return extract(exchange, **more)


ROME = chat({"content": "Rome"})
STOP = chat({}, "stop")
OOM = {"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}}
START = {"type": "message_start", "message": {"id": "m1", "role": "assistant", "content": []}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Rome"}}
ENDED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
STOPPED = {"type": "message_stop"}
CREATED = {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": [], "error": None}}
SPOKEN = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Rome"}
SAID = {"id": "r1", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Rome"}]}]}


def response(status: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {**SAID, "status": status} | more}


def talk(content: str, *, done: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content}, "done": done} | more


FAILURES = {
    "an error first, and [DONE]": ("chat", sse(OOM, "[DONE]"), "out of memory"),
    "an error midway": ("chat", sse(ROME, OOM, "[DONE]"), "out of memory"),
    "an error last": ("chat", sse(ROME, OOM), "out of memory"),
    "a text for an error": ("chat", sse(ROME, {"error": "gone"}), "gone"),
    "an error that names its type only": ("chat", sse({"error": {"type": "queue_full", "code": 503}}), "queue_full"),
    "an error within an error": ("chat", sse({"error": {"code": 500, "error": {"message": "deep"}}}), "deep"),
    "an error of numbers": ("chat", sse(ROME, {"error": {"code": 500}}), '{"code":500}'),
    "a list of errors": ("chat", sse(ROME, {"errors": [{"message": "first"}]}), "first"),
    "an older vLLM": ("chat", sse(ROME, {"object": "error", "message": "bad", "code": 400}, "[DONE]"), "bad"),
    "LiteLLM": ("chat", sse(ROME, {"error": {"message": "litellm.X", "type": None, "code": "500"}}), "litellm.X"),
    "an error beside a choice": ("chat", sse(ROME, chat({"content": ""}, "error", error={"message": "left"})), "left"),
    "an error in a choice": (
        "chat", sse(ROME, {"choices": [{"index": 0, "delta": {}, "error": {"message": "left"}}]}, STOP), "left"),
    "abort": ("chat", sse(ROME, chat({}, "abort"), "[DONE]"), "finish reason abort"),
    "TIMEOUT": ("chat", sse(ROME, chat({}, "TIMEOUT"), "[DONE]"), "finish reason TIMEOUT"),
    "abort of the second choice": (
        "chat", sse(ROME, STOP, {"choices": [{"index": 1, "delta": {}, "finish_reason": "abort"}]}),
        "finish reason abort"),
    "event error with words": (
        "chat", sse(ROME) + "event: error\ndata: the engine has gone\n\n", "the engine has gone"),
    "event error with a JSON text": ("chat", sse(ROME) + 'event: error\ndata: "gone"\n\n', "gone"),
    "event error with a number": ("chat", sse(ROME) + "event: error\ndata: 503\n\n", "503"),
    "event error with an object": ("chat", sse(ROME) + 'event: error\ndata: {"detail":"gone"}\n\n', "gone"),
    "event error with empty data": ("chat", sse(ROME) + "event: error\ndata:\n\n", "error"),
    "event error without data": ("chat", sse(ROME) + "event: error\n\n", "error"),
    "event error broken off": ("chat", sse(ROME) + "event: error\ndata: go", "go"),
    "event error with null": ("chat", sse(ROME) + "event: error\ndata: null\n\n", "null"),
    "event error alone": ("chat", "event: error\ndata: gone\n\n", "gone"),
    "event error, single newlines": (
        "chat", sse(ROME, end="\n") + "event: error\ndata: the engine has gone\n", "the engine has gone"),
    "a text completion": ("completions", sse(text("Rome"), OOM, "[DONE]"), "out of memory"),
    "a choice of a text completion": (
        "completions", sse(text("Rome"), {"choices": [{"text": "", "error": {"message": "left"}}]}), "left"),
    "aborted text completion": ("completions", sse(text("Rome", "abort"), "[DONE]"), "finish reason abort"),
    "overloaded": ("messages", named(START, {"type": "error", "error": {"type": "overloaded_error"}}),
                   "overloaded_error"),
    "overloaded at once": (
        "messages", named({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        "Overloaded"),
    "a foreign error among messages": ("messages", named(START, BLOCK, DELTA) + sse(OOM), "out of memory"),
    "response.failed": (
        "responses", named(CREATED, response("failed", error={"code": "x", "message": "stopped"})), "stopped"),
    "response.failed without a reason": ("responses", named(CREATED, response("failed")), "status failed"),
    "response.cancelled": ("responses", named(CREATED, SPOKEN, response("cancelled")), "status cancelled"),
    "error of Responses": (
        "responses", named(CREATED, SPOKEN, {"type": "error", "code": "x", "message": "late"}), "late"),
    "a foreign error among Responses": ("responses", named(CREATED, SPOKEN) + sse(OOM), "out of memory"),
    "an unknown stream's": ("own", sse({"tick": 1}, {"error": "late"}), "late"),
    "an unknown stream of errors": ("own", sse({"error": "a"}, {"error": {"message": "b"}}), "a"),
    "event error with the end": ("chat", sse(ROME, STOP) + "event: error\ndata: [DONE]\n\n", "[DONE]"),
    "event Error": ("chat", sse(ROME, STOP) + "event: Error\ndata: gone\n\n", "gone"),
    "event ERROR, with spaces": ("chat", sse(ROME, STOP) + "event:  ERROR \ndata: gone\n\n", "gone"),
    "event error of an answer": (
        "own", sse({"text": "a"}) + 'event: error\ndata: {"error": "late", "text": "b"}\n\n', "late"),
    "event error with a number in it": ("chat", sse(ROME, STOP) + 'event: error\ndata: {"error": 503}\n\n',
                                        '{"error":503}'),
    "a number, after the end": ("chat", sse(ROME, STOP, "[DONE]", {"error": 503, "message": "busy"}), "busy"),
    "a framework's detail": ("chat", sse(ROME, {"detail": "gone"}, "[DONE]"), "gone"),
    "a framework's detail alone": ("chat", sse({"detail": "gone"}, "[DONE]"), "gone"),
    "a gateway's message": ("chat", sse(ROME, STOP, {"message": "gone", "request_id": "1"}), "gone"),
    "Dify": ("own", sse({"event": "error", "status": 400, "message": "quota"}), "quota"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_within_status_200_is_a_failure(name: str) -> None:
    kind, body, words = FAILURES[name]
    found = call(kind, body)
    assert (found.failed, found.error) == (True, words)
    assert found.reassembled is None or kind == "own" or found.reassembled.get("error") or "finish" in words or \
        "status" in words or "choice" in name  # fmt: skip
    assert json.dumps(found.reassembled) is not None, "no circle"
    crlf = call(kind, body.replace("\n", "\r\n"))
    assert (crlf.failed, crlf.error) == (True, words)


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("chat", {"error": {"message": "no such provider", "code": 502}}, "no such provider"),
        ("chat", {"error": "gone"}, "gone"),
        ("chat", {"error": True, "message": "gone"}, "true"),
        ("chat", {"error": [None, {"message": "gone"}]}, "gone"),
        ("chat", {"error": 503}, '{"error":503}'),
        ("chat", {"error": {"status": 503}}, '{"status":503}'),
        ("chat", {"object": "Error", "message": "gone"}, "gone"),
        ("chat", {"errors": {"model": "gone"}}, '{"model":"gone"}'),
        ("chat", {"detail": "gone"}, "gone"),
        ("chat", {"detail": [{"loc": ["body"], "msg": "missing"}]}, "missing"),
        ("chat", {"message": "Internal server error"}, "Internal server error"),
        ("chat", {"status": "error", "message": "gone"}, "gone"),
        ("chat", {"status": 500, "message": "gone"}, "gone"),
        ("chat", {"success": False, "message": "gone"}, "gone"),
        ("chat", {"ok": False}, '{"ok":false}'),
        ("chat", {"errorMessage": "gone", "errorType": "Timeout"}, "gone"),
        ("chat", {"error_code": 5, "error_msg": "gone"}, "gone"),
        ("chat", {"choices": [{"message": {"content": "a"}, "error": ["left"]}]}, "left"),
        ("messages", {"message": "gone"}, "gone"),
        ("ollama", {"message": "gone", "code": 500}, "gone"),
        ("responses", {**SAID, "status": "CANCELED"}, "status canceled"),
        ("chat", {"object": "error", "message": "bad", "code": 400}, "bad"),
        ("chat", {"choices": [{"message": {"content": "The"}, "finish_reason": "error"}]}, "finish reason error"),
        ("chat", {"choices": [{"message": {"content": "The"}, "error": "left"}]}, "left"),
        ("chat", {"success": False, "errors": [{"message": "no"}], "result": None}, "no"),
        ("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "Overloaded"),
        ("messages", {"type": "message", "content": [], "stop_reason": "error"}, "finish reason error"),
        ("responses", {**SAID, "status": "failed", "error": {"message": "stopped"}, "output": []}, "stopped"),
        ("responses", {**SAID, "status": "failed", "error": None, "output": []}, "status failed"),
        ("responses", {**SAID, "status": "cancelled"}, "status cancelled"),
        ("ollama", {"error": "model not found"}, "model not found"),
        ("ollama", talk("a", done=True, done_reason="error"), "finish reason error"),
        ("own", {"error": "boom"}, "boom"),
        ("own", {"error": {"message": "boom"}, "prediction": None, "text": ""}, "boom"),
        ("own", {"statusCode": 500, "error": "Internal Server Error", "message": "boom"}, "Internal Server Error"),
        ("own", {"finish_reason": "abort", "text": "a"}, "finish reason abort"),
    ],
)
def test_a_json_body_that_is_an_error_is_a_failure(kind: str, body: dict[str, Any], words: str) -> None:
    found = call(kind, json.dumps(body), "application/json")
    assert found.failed
    assert found.error
    assert found.error == words
    assert call(kind, json.dumps(body), SSE).failed, "also where it stands in for the stream that was asked for"


def test_of_several_names_of_an_error_the_same_one_counts_in_every_process() -> None:
    names = "err", "error_message", "errorMessage", "error_msg", "error_code", "errorCode", "error_type", "errorType"
    for clear, vague in combinations(names, 2):
        found = call("chat", json.dumps({vague: "vague", clear: "clear"}), "application/json")
        assert found.error == "clear"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", {"error": None, "choices": [{"message": {"content": "a"}}]}),
        ("chat", {"error": "", "choices": [{"message": {"content": "a"}, "finish_reason": "length"}]}),
        ("chat", {"error": {}, "errors": [], "choices": [{"message": {"content": "a"}, "finish_reason": None}]}),
        ("chat", {"error": False, "choices": [{"message": {"content": "a"}, "error": None}]}),
        ("messages", {"type": "message", "content": [], "stop_reason": "max_tokens"}),
        ("responses", {**SAID, "status": "incomplete", "error": None,
                       "incomplete_details": {"reason": "max_output_tokens"}}),
        ("ollama", talk("a", done=True, done_reason="length")),
        ("own", {"error": 0.03, "prediction": 5}),
        ("own", {"error": 0.03}),
        ("own", {"error": [0.1, 0.2], "y": [1, 2]}),
        ("own", {"errors": [0.1, 0.2]}),
        ("own", {"error": {"mae": 0.1, "rmse": 0.2}, "score": 0.9}),
        ("own", {"error": {"code": None, "message": None, "param": "x"}, "status": "running"}),
        ("own", {"error": {"object": "list", "data": []}}),
        ("own", {"error": "None"}),
        ("own", {"detail": "a house with a garden"}),
        ("own", {"status": "failed", "id": "job-1"}),
        ("chat", {"error": {"code": 0, "message": ""}, "choices": [{"message": {"content": "a"}}]}),
        ("chat", {"error": [None], "choices": [{"message": {"content": "a"}, "error": {"message": None}}]}),
        ("chat", {"request_id": "answered later"}),
        ("chat", {}),
        ("own", {"error": "±3 %", "prediction": 5}),
        ("own", {"type": "error", "label": "cat"}),
    ],
)  # fmt: skip
def test_what_only_looks_like_an_error_is_none(kind: str, body: dict[str, Any]) -> None:
    found = call(kind, json.dumps(body), "application/json")
    assert (found.failed, found.error) == (False, None)
    assert not call(kind, sse(body)).failed


def test_a_refusal_by_status_is_told_by_the_status() -> None:
    body = json.dumps(OOM).encode()
    found = extract(CapturedExchange(target="/v1/chat/completions", status=404, request=ASK["chat"][1], response=body))
    assert (found.failed, found.error, found.response) == (False, "out of memory", None)


ENDS = {
    "chat, finish reason": ("chat", sse(ROME, STOP), SSE, True),
    "chat, [DONE]": ("chat", sse(ROME, "[DONE]"), SSE, True),
    "chat, both": ("chat", sse(ROME, STOP, "[DONE]"), SSE, True),
    "chat, finish reason before usage": ("chat", sse(ROME, STOP, {"choices": [], "usage": {}}), SSE, True),
    "chat, neither": ("chat", sse(ROME), SSE, False),
    "chat, cut in an event": ("chat", sse(ROME) + 'data: {"choices', SSE, False),
    "chat, only a usage": (
        "chat", sse({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 1}}, "[DONE]"), SSE,
        False),
    "chat, only [DONE]": ("chat", sse("[DONE]"), SSE, False),
    "chat, the second of two ended": (
        "chat", sse(ROME, {"choices": [{"index": 1, "delta": {"content": "a"}, "finish_reason": "stop"}]}), SSE, False),
    "chat, the first of two ended": (
        "chat", sse(ROME, {"choices": [{"index": 1, "delta": {"content": "a"}}]}, STOP), SSE, False),
    "chat, both ended": (
        "chat", sse(ROME, {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}, STOP), SSE, True),
    "chat, one of two ended, and [DONE]": (
        "chat", sse(ROME, {"choices": [{"index": 1, "delta": {}}]}, STOP, "[DONE]"), SSE, True),
    "chat, blanks behind the end": ("chat", sse(ROME, "[done]") + " \t\n", SSE, True),
    "chat, news between": (
        "chat", sse({"status": "searching", "message": "the web"}, {"type": "status", "message": "read"}, ROME, STOP),
        SSE, True),
    "text, finish reason": ("completions", sse(text("Rome", "stop")), SSE, True),
    "text, [DONE]": ("completions", sse(text("Rome"), "[DONE]"), SSE, True),
    "text, neither": ("completions", sse(text("Rome")), SSE, False),
    "messages": ("messages", named(START, BLOCK, DELTA, ENDED, STOPPED), SSE, True),
    "messages without a stop": ("messages", named(START, BLOCK, DELTA, ENDED), SSE, False),
    "messages, [DONE] is no mark of theirs": ("messages", named(START, BLOCK, DELTA) + sse("[DONE]"), SSE, False),
    "responses": ("responses", named(CREATED, SPOKEN, response("completed")), SSE, True),
    "responses cut by a limit": (
        "responses", named(CREATED, SPOKEN, response("incomplete", incomplete_details={"reason": "max_output_tokens"})),
        SSE, True),
    "responses without an end": ("responses", named(CREATED, SPOKEN), SSE, False),
    "ollama": ("ollama", lines(talk("Rome"), talk("", done=True)), LINES, True),
    "ollama without an end": ("ollama", lines(talk("Ro"), talk("me")), LINES, False),
    "ollama, one line": ("ollama", lines(talk("Rome")), LINES, False),
    "ollama, one whole line": ("ollama", lines(talk("Rome", done=True)), LINES, True),
    "ollama, an array": ("ollama", json.dumps([talk("Ro"), talk("me", done=True)]), "application/json", True),
    "ollama, an array without an end": ("ollama", json.dumps([talk("Ro"), talk("me")]), "application/json", False),
    "kserve has no mark": ("kserve", sse({"text_output": "Rome"}), SSE, None),
    "kserve, an array": ("kserve", json.dumps([{"text_output": "Ro"}, {"text_output": "me"}]), "", None),
    "unknown": ("own", sse({"tick": 1}), SSE, None),
    "plain words": ("own", sse("Rome"), SSE, None),
    "nothing": ("chat", "", SSE, False),
    "nothing, line by line": ("ollama", "", LINES, False),
    "blank lines": ("ollama", "\n\n", LINES, False),
    "comments and pings": ("chat", ": ping\n\n: ping\n\nevent: ping\ndata: {}\n\n".replace("{}", ""), SSE, False),
    "an empty unknown stream": ("own", ": ping\n\n", SSE, False),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_a_stream_is_whole_with_its_terminal_mark(name: str) -> None:
    kind, body, content_type, whole = ENDS[name]
    found = call(kind, body, content_type)
    assert (found.whole, found.failed, found.streamed) == (whole, False, True)


def test_an_answer_that_is_no_stream_is_neither_whole_nor_cut() -> None:
    assert call("chat", json.dumps({"choices": [{"message": {"content": "a"}}]}), "application/json").whole is None
    assert call("chat", "", "application/json").whole is None


def test_a_text_is_unknown_before_its_first_word() -> None:
    """An empty answer is one; what was cut before it began is not known."""
    role = chat({"role": "assistant", "content": ""})
    assert call("chat", sse(role, STOP)).response == ""
    assert call("chat", sse(role)).response is None
    assert call("messages", named(START, BLOCK)).response is None
    assert call("responses", named(CREATED)).response is None
    assert call("responses", json.dumps({"status": "queued", "output": []}), "application/json").response is None
    assert call("responses", json.dumps({"status": "in_progress", "output": []}), "application/json").response is None
    assert call("responses", json.dumps({"status": "completed", "output": []}), "application/json").response == ""


RECOGNISED = {
    "no type": ("", "\n\n"), "plain text": ("text/plain; charset=utf-8", "\n\n"), "JSON": ("application/json", "\n\n"),
    "octets": ("application/octet-stream", "\n\n"), "CRLF": ("text/plain", "\r\n\r\n"), "CR": ("", "\r\r"),
    "single newlines": (SSE, "\n"), "single CRLF": ("", "\r\n"), "single, as JSON": ("application/json", "\n"),
}  # fmt: skip
BEGINNINGS = {
    "at once": "", "a mark": "\ufeff", "blank lines": "\n\n", "a mark and a blank line": "\ufeff\r\n",
    "a comment": ": keep-alive\n\n", "an id": "id: 7\n", "a retry": "retry: 100\n", "a name": "event: message\n",
}  # fmt: skip


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("name", RECOGNISED)
@pytest.mark.parametrize("space", [" ", ""])
def test_an_event_stream_is_known_by_its_beginning(name: str, beginning: str, space: str) -> None:
    content_type, end = RECOGNISED[name]
    body = BEGINNINGS[beginning] + sse(ROME, chat({"content": " it is."}), STOP, "[DONE]", end=end)
    found = call("chat", body.replace("data: ", f"data:{space}"), content_type)
    assert (found.response, found.streamed, found.whole, found.unread) == ("Rome it is.", True, True, False)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", SSE, LINES])
def test_json_lines_are_known_by_their_beginning(content_type: str) -> None:
    body = lines(talk("Rome"), talk(" it is.", done=True))
    for variant in (body, "\ufeff" + body, "\n" + body, body.replace("\n", "\r\n")):
        found = call("ollama", variant, content_type)
        assert (found.response, found.streamed, found.whole, found.unread) == ("Rome it is.", True, True, False)


@pytest.mark.parametrize(
    "body",
    ["data", "data and more", "id: 7\nname: x\n", ": a list\n: of two\n", "event: birthday\nplace: Rome\n",
     "retry: 7\n",
     "data: 1\nmore: 2\n", "<html>", "Note: data: {}", "{\n}", "", "\n", '{"a":1}', '"a"\n{"b":1}\n'],
)  # fmt: skip
def test_what_only_begins_alike_is_no_stream(body: str) -> None:
    assert read_stream(body.encode(), "text/plain") is None


def test_a_long_beginning_is_judged_by_whole_lines() -> None:
    comments = ": waiting\n\n" * 1000
    assert call("chat", comments + sse(ROME, STOP), "text/plain").response == "Rome"
    assert call("chat", comments, "text/plain").streamed is False
    assert call("chat", comments + "Rome" * 2000, "text/plain").streamed is False
    assert call("chat", "event: " + "x" * 5000 + "\n" + sse(ROME, STOP), "text/plain").response is None
    words = "data: word\n\n" * 1000
    assert call("own", words, "text/plain").response == "word" * 1000


def test_lines_of_one_event_are_joined_as_the_standard_says() -> None:
    pretty = "".join(
        "data: " + json.dumps(event, indent=1).replace("\n", "\ndata: ") + "\n\n" for event in (ROME, STOP)
    )
    found = call("chat", pretty)
    assert (found.response, found.whole, found.unread) == ("Rome", True, False)
    assert found.first_content == pretty.index("\n\n") + 2
    open_end = call("chat", pretty.rstrip("\n").rpartition("\n\n")[0])
    assert open_end.first_content == len(pretty.rstrip("\n").rpartition("\n\n")[0])


UNREAD = {
    "no JSON midway": ("chat", sse(ROME, '{"id": ', STOP), SSE, True),
    "no JSON midway, single newlines": ("chat", sse(ROME, '{"id": ', STOP, end="\n"), SSE, True),
    "words midway": ("chat", sse(ROME, "Internal Server Error", STOP), SSE, True),
    "a page midway": ("chat", sse(ROME) + "<html><body>502</body></html>\n" + sse(STOP), SSE, True),
    "words without a field": ("chat", sse(ROME) + "upstream connect error\n\n" + sse(STOP), SSE, True),
    "words like a field": ("chat", sse(ROME) + "Error: gone\n\n" + sse(STOP), SSE, True),
    "a page instead": ("chat", "<html><body>502</body></html>\n", SSE, True),
    "a page instead, as JSON": ("chat", "<html>502</html>", "application/json", True),
    "half of an object": ("chat", '{"choices":[', "application/json", True),
    "a last event that breaks off": ("chat", sse(ROME) + 'data: {"choi', SSE, True),
    "a last line that breaks off": ("ollama", lines(talk("Rome")) + '{"mod', LINES, True),
    "a field that breaks off": ("chat", sse(ROME, STOP) + "dat", SSE, True),
    "a line that is none": ("ollama", lines(talk("Rome")) + "gone\n" + lines(talk("", done=True)), LINES, True),
    "a page line by line": ("ollama", "<html>\n", LINES, True),
    "[DONE], comments, pings and empty data": (
        "chat", ": hi\n\n" + sse(ROME, "", "ping", "keep-alive", "null", "{}", STOP, "[DONE]", " [DONE] ")
        + "event: ping\ndata: at 12:00\n\ndata\n\nretry: 7\nid: 1\nnew-field: 2\n\n", SSE, False),
    "words alone": ("own", sse("Ro", "me"), SSE, False),
    "blank lines": ("ollama", "\n\n" + lines(talk("Rome", done=True)) + " \n", LINES, False),
    "nothing": ("chat", "", "application/json", False),
    "null": ("chat", "null", "application/json", False),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_could_not_be_read_is_told(name: str) -> None:
    kind, body, content_type, unread = UNREAD[name]
    assert call(kind, body, content_type).unread is unread
    broken_off = "breaks off" in name or "half" in name or "instead, as" in name
    assert call(kind, body, content_type, cut=True).unread is (unread and not broken_off)


@pytest.mark.parametrize("cut", [False, True])
def test_a_request_that_claims_json_and_is_none_is_unread_unless_it_was_cut(cut: bool) -> None:
    for body, claims in ((b'{"messages":[', True), (b"hello", True), (b"", False), (b"null", False)):
        exchange = CapturedExchange(target="/v1/chat/completions", request=body, request_type="application/json",
                                    request_cut=cut)  # fmt: skip
        assert extract(exchange).unread is (claims and not cut)
    assert not extract(CapturedExchange(target="/x", request=b"[log] hello", request_type="text/plain")).unread


FIRST: dict[str, tuple[str, list[Any], int | None]] = {
    "at once": ("chat", [ROME, STOP], 0),
    "after the role": ("chat", [chat({"role": "assistant"}), ROME, STOP], 1),
    "after an empty text": ("chat", [chat({"role": "assistant", "content": ""}), chat({"content": ""}), ROME], 2),
    "after a run of empty texts": ("chat", [*[chat({"content": ""})] * 20, ROME, ROME], 20),
    "after places for more": (
        "chat", [chat({"content": None, "tool_calls": None, "function_call": None, "annotations": [{"a": 1}]}), ROME],
        1),
    "after an empty usage": ("chat", [{"choices": [], "prompt_filter_results": []}, ROME], 1),
    "reasoning": ("chat", [chat({"content": ""}), chat({"reasoning_content": "Hm"}), ROME], 1),
    "a refusal": ("chat", [chat({"refusal": "No"})], 0),
    "a call": (
        "chat", [chat({"role": "assistant"}), chat({"tool_calls": [{"index": 0, "function": {"name": "f"}}]})], 1),
    "an empty call": (
        "chat", [chat({"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": ""}}]}), ROME], 1),
    "a list of parts": ("chat", [chat({"content": [{"type": "text", "text": ""}]}),
                                 chat({"content": [{"type": "text", "text": "Rome"}]})], 1),
    "no word at all": ("chat", [chat({"role": "assistant"}), STOP], None),
    "text": ("completions", [text(""), text("Rome")], 1),
    "messages": ("messages", [START, {"type": "ping"}, BLOCK, DELTA], 3),
    "a tool of messages": (
        "messages", [START, {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}}], 1),
    "thinking": (
        "messages", [START, {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
                     {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}},
                     {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "H"}}], 3),
    "responses": ("responses", [CREATED, {"type": "response.output_item.added", "item": {"type": "message"}},
                                {**SPOKEN, "delta": ""}, SPOKEN], 3),
    "a call of responses": (
        "responses", [CREATED, {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}}],
        1),
    "responses at their end": ("responses", [CREATED, response("completed")], 1),
    "ollama": ("ollama", [talk(""), talk("Rome")], 1),
    "ollama thinks": ("ollama", [talk(""), {"message": {"thinking": "H"}, "done": False}], 1),
    "kserve": ("kserve", [{"text_output": ""}, {"text_output": "Rome"}], 1),
    "unknown": ("own", [{"tick": 1}], None),
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("comment", ["", ": hello\n\n", "event: ping\ndata: {}\n\n"])
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", "\n"])
def test_the_first_content_is_behind_its_event(name: str, comment: str, end: str) -> None:
    kind, events, at = FIRST[name]
    parts = [comment, *(sse(event, end=end) for event in events)]
    found = call(kind, "".join(parts))
    if at is None:
        assert found.first_content is None
        assert call(kind, lines(*events), LINES).first_content is None
        return
    before = sum(map(len, parts[: at + 1]))
    assert found.first_content is not None
    assert before < found.first_content <= before + len(parts[at + 1])
    assert "".join(parts)[: found.first_content].rstrip() == "".join(parts[: at + 2]).rstrip()
    by_line = call(kind, lines(*events), LINES)
    assert by_line.first_content == len(lines(*events[: at + 1]))


def test_objects_are_found_again_in_the_bytes() -> None:
    body = b'data: {"a":1}\n\ndata: [DONE]\n\ndata: {\ndata: "b":2}\n\ndata: {"c":\ndata: 3}'
    framing = framing_of(body, SSE)
    assert framing is not None
    found = [(end, value) for end, value in framing.scan(body, 0) if value is not None]
    assert found == [(14, {"a": 1}), (14 + 1, {"a": 1}), (51, {"b": 2}), (len(body), {"c": 3})]
    assert [value for _, value in framing.scan(body, 3)][:3] == [None, None, None]
    by_line = framing_of(b"", LINES)
    assert by_line is not None
    assert [pair for pair in by_line.scan(b'{"a":1}\nx\n{"b":2}', 1) if pair[1]] == [(17, {"b": 2})]


def test_an_answer_that_is_no_stream_is_there_with_its_first_byte() -> None:
    assert call("chat", json.dumps({"choices": []}), "application/json").first_content == 1
    assert call("chat", "", "application/json").first_content is None


PIECES = [r"\ud83d", r"\ude42", "a", "é", "🙂", r"\n", r"\"", r"\u0000", ""]
RAW = [piece.encode() for piece in PIECES] + [
    b"\xe9",
    b"\xf0\x9f",
    b"\x99\x82",
    b"\xed\xa0\xbd",
    b"\xed\xb9\x82",
    b"\t",
]


@given(st.lists(st.sampled_from(RAW), min_size=1, max_size=12))
def test_runs_say_what_their_events_say_whatever_is_in_them(pieces: list[bytes]) -> None:
    """Joined before they are parsed or parsed before they are joined (as the ids here force): the same text."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    apart = b'data: {"n":%d,"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    together = call("chat", b"".join(event % piece for piece in pieces))
    by_one = call("chat", b"".join(apart % (n, piece) for n, piece in enumerate(pieces)))
    assert together.response == by_one.response
    assert together.unread is by_one.unread is False
    whole = read_stream(b"".join(event % piece for piece in pieces), SSE)
    assert whole is not None
    whole.document["choices"][0]["message"]["content"].encode()


def test_halves_of_an_emoji_are_joined_and_a_lone_one_is_told() -> None:
    for body, right in ((r"\ud83d|\ude42 ok", "🙂 ok"), (r"one |\ud83d two| three", "one � two three")):
        raw = "".join(f'data: {{"choices":[{{"delta":{{"content":"{piece}"}}}}]}}\n\n' for piece in body.split("|"))
        assert call("chat", raw).response == right
        named_parts = "".join(
            f'data: {{"type":"content_block_delta","delta":{{"type":"text_delta","text":"{piece}"}}}}\n\n'
            for piece in body.split("|")
        )
        assert call("messages", named_parts).response == right
        own = "".join(f'data: {{"say":{{"it":"{piece}"}}}}\n\n' for piece in body.split("|"))
        assert call("own", own, pointers=Pointers.parse(response=["/say/it"])).response == right


def test_numbers_that_json_does_not_know_are_no_obstacle() -> None:
    body = 'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"logprob":-Infinity}]}}]}\n\n'
    found = call("chat", body * 3 + sse(STOP))
    assert (found.response, found.unread) == ("aaa", False)


def test_tool_arguments_with_half_an_emoji_are_read() -> None:
    arguments = json.dumps({"q": "cut \ud83d"})
    body = sse(chat({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": arguments}}]}), STOP)
    assert call("chat", body).response == '<tool_call>{"name":"f","arguments":{"q":"cut �"}}</tool_call>'


@pytest.mark.parametrize("opening", ['{"a":', "[", '{"choices":[{"delta":{"content":['])
@pytest.mark.parametrize("content_type", ["application/json", SSE, LINES])
def test_hostile_depth_is_unread_and_nothing_breaks(opening: str, content_type: str) -> None:
    for depth in (120, 900, 5000):
        closing = "".join({"{": "}", "[": "]"}[mark] for mark in reversed(opening) if mark in "{[")
        body = opening * depth + '"x"' + closing * depth
        for variant in (body, f"data: {body}\n\n" * 2, f"{body}\n{body}\n"):
            call("chat", variant, content_type)
            found = extract(CapturedExchange(target="/own", request=body.encode(), response=variant.encode(),
                                             request_type="application/json", response_type=content_type))  # fmt: skip
            assert found.unread or depth < 5000


def test_the_shape_is_told_by_the_events_though_the_path_is_not_known() -> None:
    found = call("own", sse(ROME, STOP, "[DONE]"))
    assert (found.kind, found.response, found.whole) == ("json", "Rome", True)


def test_a_stream_of_an_error_status_is_no_answer() -> None:
    exchange = CapturedExchange(target="/v1/chat/completions", status=500, request=ASK["chat"][1],
                                response=sse(OOM).encode(), response_type=SSE)  # fmt: skip
    found = extract(exchange)
    assert (found.response, found.error, found.failed) == (None, "out of memory", False)


def test_nothing_was_sent_is_no_stream() -> None:
    assert extract(CapturedExchange(target="/x", status=0, response_type=SSE)).whole is None
    assert read_stream(b"", SSE) == Streamed(whole=False)


MANY = 20_000
HOSTILE = {
    "no JSON": b'data: {"a":\n\n', "words": b"data: x\n\n", "pings": b": ping\n\n", "CR": b"data: {}\r\r",
    "single newlines": b'data: {"choices":[{"delta":{"content":"a"}}]}\n',
    "calls that never end":
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"a","arguments":"{"}}]}}]}\n\n',
    "parts": b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}\n\n',
    "parts in parts":
        b'data: {"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}}]}\n\n',
    "audio": b'data: {"choices":[{"delta":{"audio":{"data":"aaaa"}}}]}\n\n',
    "nothing known": b'data: {"a":{"b":"xyz"}}\n\n', "empty words": b'data: {"choices":[{"delta":{"content":""}}]}\n\n',
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_grows_with_the_stream_and_not_with_its_square(name: str) -> None:
    began = time.process_time()
    call("chat", HOSTILE[name] * MANY)
    assert time.process_time() - began < 20.0, "half a second on an idle machine"


SAYS_HI: Any = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
ENDED_BY: dict[str, tuple[str, Any, Any]] = {
    "chat": ("/v1/chat/completions", SAYS_HI, {"choices": [{"message": {"content": "a"}, "finish_reason": "REASON"}]}),
    "the second choice": ("/v1/chat/completions", SAYS_HI, {
        "choices": [{"message": {"content": "a"}}, {"message": {"content": "a"}, "finish_reason": "REASON"}]}),
    "completions": ("/v1/completions", {"prompt": "hi"}, {"choices": [{"text": "a", "finish_reason": "REASON"}]}),
    "messages": ("/v1/messages", SAYS_HI, {"content": [{"type": "text", "text": "a"}], "stop_reason": "REASON"}),
    "ollama": ("/api/chat", SAYS_HI, {"message": {"content": "a"}, "done": True, "done_reason": "REASON"}),
    "gemini": ("/m:generateContent", {"contents": "hi"}, {
        "candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "REASON"}]}),
    "converse": ("/model/m/converse", SAYS_HI, {
        "output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "REASON"}),
    "invoke": ("/model/m/invoke", {"prompt": "hi"}, {"generation": "a", "stop_reason": "REASON"}),
    "cohere": ("/v2/chat", SAYS_HI, {"message": {"content": "a"}, "finish_reason": "REASON"}),
    "cohere v1": ("/v1/chat", {"message": "hi"}, {"text": "a", "finish_reason": "REASON"}),
    "tgi": ("/generate", {"inputs": "hi"}, {"generated_text": "a", "details": {"finish_reason": "REASON"}}),
    "sglang": ("/generate", {"text": "hi"}, {"text": "a", "meta_info": {"finish_reason": {"type": "REASON"}}}),
    "llama.cpp": ("/completion", {"prompt": "hi"}, {"content": "a", "stop": True, "stop_type": "REASON"}),
    "unknown": ("/own", {"text": "hi"}, {"text": "a", "stop_reason": "REASON"}),
}  # fmt: skip


@pytest.mark.parametrize("reason", ["error", "ERROR", "Abort", "aborted", "timeout"])
@pytest.mark.parametrize("name", ENDED_BY)
def test_whoever_ends_by_giving_up_has_failed(name: str, reason: str) -> None:
    """In every shape, however it is spelt."""
    target, ask, answer = ENDED_BY[name]
    response = json.dumps(answer).replace("REASON", reason).encode()
    request = json.dumps(ask).encode()
    found = extract(CapturedExchange(target=target, request=request, response=response))
    assert found.failed
    assert found.error


def test_halves_of_an_emoji_are_joined_across_the_elements_of_an_array() -> None:
    one = '{"candidates": [{"content": {"parts": [{"text": "%s"}]}, "finishReason": %s}]}'
    body = "[" + one % (r"a \ud83d", "null") + ",\n" + one % (r"\ude42 b \ud83d", '"STOP"') + "]"
    request = json.dumps({"contents": "hi"}).encode()
    found = extract(CapturedExchange(target="/m:streamGenerateContent", request=request, response=body.encode()))
    assert (found.response, found.whole) == ("a 🙂 b \ufffd", True)
