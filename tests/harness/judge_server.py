"""A scripted judge: an OpenAI-style endpoint in a thread of its own that remembers every question.

A script takes the request's JSON and returns what is said: a text (the message's content), a number (a verdict with
that score), an HTTP status with headers, or an Event to wait for before the connection is dropped.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

__all__ = ["JudgeServer", "Said", "verdict"]

Said: TypeAlias = "str | float | tuple[int, Mapping[str, str]] | threading.Event"


def verdict(score: float, reason: str = "because") -> str:
    """As a judge says it."""
    return json.dumps({"score": score, "reason": reason})


class JudgeServer:
    """Use as a context manager. `script` may be replaced at any time."""

    def __init__(self, script: Callable[[Any], Said] = lambda asked: 1.0, *, tokens: int = 7) -> None:
        self.script = script
        self.tokens = tokens
        self.asked: list[Any] = []
        """The JSON of every question, in order."""
        self.headers: list[Mapping[str, str]] = []
        self.came = threading.Condition()
        """Notified at every question."""
        self.most_open = 0
        self._open = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def texts(self) -> list[str]:
        """Every word of each question."""
        with self.came:
            return [json.dumps(asked) for asked in self.asked]

    def await_asked(self, count: int, timeout_s: float = 60.0) -> None:
        """Return once so many questions have come."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.asked) >= count, timeout_s), f"{len(self.asked)} of {count} came"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with judge.came:
                    judge.asked.append(asked | {"path": self.path})
                    judge.headers.append(dict(self.headers.items()))
                    judge._open += 1
                    judge.most_open = max(judge.most_open, judge._open)
                    judge.came.notify_all()
                try:
                    self._say(judge.script(asked))
                finally:
                    with judge.came:
                        judge._open -= 1

            def _say(self, said: Said) -> None:
                if isinstance(said, threading.Event):
                    said.wait(60)
                    self.close_connection = True
                    return
                status, headers = said if isinstance(said, tuple) else (200, {})
                text = verdict(said) if isinstance(said, int | float) else said
                body = json.dumps({
                    "choices": [{"message": {"role": "assistant", "content": text}}],
                    "usage": {"total_tokens": judge.tokens},
                }).encode() if status == 200 else b'{"error": {"message": "scripted"}}'  # fmt: skip
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
