"""A model to chat with where there is none: Weizenbaum's ELIZA (1966), much shortened, behind an OpenAI-style API.

    python examples/chat/eliza.py 9000

Standard library only. It answers POST /v1/chat/completions, streamed or not, with token counts, and GET /health.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RULES = (
    (r"\bi need (.+)", "Why do you need {0}?", "Would it really help you to get {0}?"),
    (r"\bi(?: am|'m) (.+)", "How long have you been {0}?", "Do you enjoy being {0}?"),
    (r"\bi feel (.+)", "Do you often feel {0}?", "What makes you feel {0}?"),
    (r"\bmy (mother|father|sister|brother)\b", "Tell me more about your {0}.", "Who else in your family?"),
    (r"\bmy (.+)", "Why do you mention your {0}?", "Does your {0} matter to you?"),
    (r"\bbecause (.+)", "Is that the real reason?", "What other reasons come to mind?"),
    (r"\b(hello|hi|hey)\b", "How do you do. Please state your problem.", "Hello. What brings you here?"),
    (r"\?\s*$", "Why do you ask?", "What answer would please you most?"),
    (r"", "Please go on.", "Tell me more about that.", "What does that suggest to you?"),
)
MIRROR = {"i": "you", "me": "you", "my": "your", "am": "are", "you": "I", "your": "my", "mine": "yours"}


def reply(text: str) -> str:
    """ELIZA's answer; the same text always gets the same one."""
    for pattern, *answers in RULES:
        if match := re.search(pattern, text, re.IGNORECASE):
            answer = answers[zlib.crc32(text.encode()) % len(answers)]
            return answer.format(*(_mirrored(group) for group in match.groups()))
    raise AssertionError("the last rule matches everything")


def _mirrored(text: str) -> str:
    return " ".join(MIRROR.get(word.lower(), word) for word in text.strip(" .!?").split())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, {"status": "ok"})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            request = json.loads(raw)
            text = str(request["messages"][-1]["content"])
        except (ValueError, LookupError, TypeError):
            self._send(400, {"error": {"message": "messages: a list that ends with the user's turn is needed"}})
            return
        answer = reply(text)
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(answer.split())}
        usage["total_tokens"] = sum(usage.values())
        if request.get("stream"):
            self._stream(answer, usage)
        else:
            message = {"role": "assistant", "content": answer}
            self._send(200, _chunk("chat.completion", {"message": message, "finish_reason": "stop"}) | {"usage": usage})

    def _stream(self, answer: str, usage: dict[str, int]) -> None:
        """Server-sent events, a word at a time at a talking pace."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in _events(answer, usage):
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _events(answer: str, usage: dict[str, int]) -> Iterator[str]:
    for word in re.findall(r"\S+\s*", answer):
        yield json.dumps(_chunk("chat.completion.chunk", {"delta": {"content": word}, "finish_reason": None}))
    yield json.dumps(_chunk("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"}) | {"usage": usage})
    yield "[DONE]"


def _chunk(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    now = time.time_ns()
    return {"id": f"chatcmpl-{now:x}", "object": kind, "created": now // 10**9, "model": "eliza",
            "choices": [{"index": 0, **choice}]}  # fmt: skip


class Server(ThreadingHTTPServer):
    """A client that leaves in the middle of an answer is no news."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    with Server(("127.0.0.1", port), Handler) as server:
        print(f"ELIZA listens on http://127.0.0.1:{server.server_address[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
