"""What the model of the test servers says: read off the user's text alone, so that each API tells the same story.

A word in the text makes the model call tools ("forecast", "forecasts"), think first ("ponder"), or go wrong in one of
the ways that real servers know: an HTTP error (`FAULTS`), an error inside a 200 ("breakdown"), a stream that ends
cleanly without its last mark ("halfway"), a stream that falls silent ("endless").
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

__all__ = ["COMPLAINT", "FAULTS", "THOUGHT", "Call", "Script", "answer_to", "events", "http_error", "id_of",
           "is_anthropic", "json_answer", "lines", "streamed", "text_of"]  # fmt: skip

FAULTS: Final = {"overflow": 400, "intruder": 401, "crowd": 429, "crash": 500}
"""Word in the user's text → status of the answer."""
THOUGHT: Final = "They want to talk. "
"""What the model thinks where it is asked to ponder."""
COMPLAINT: Final = "the engine gave up"
"""The message of an error inside a 200."""
_BEGUN: Final = 3
"""Pieces of an answer that arrive before a stream goes wrong."""


def answer_to(text: str) -> str:
    """What the model says to `text`: long enough to be compressed, not ASCII alone, and every word ends in a space."""
    return f"You said “{text}”. " + "Très intéressant, tell me more. " * 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a tool: its arguments are JSON values."""

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def json(self) -> str:
        """The arguments as JSON text."""
        return orjson.dumps(self.arguments).decode()

    @property
    def halves(self) -> tuple[str, str]:
        """The JSON text in two pieces, as streams send it."""
        return self.json[:5], self.json[5:]

    def as_function(self, arguments: str) -> dict[str, Any]:
        """The call as OpenAI's API has it, and others after it, with as much of the arguments as there is."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


_CALLS: Final = (
    Call(id="call_1", name="weather", arguments={"city": "Zürich", "days": 2}),
    Call(id="call_2", name="news", arguments={"topic": "Oslo"}),
)


class Script:
    """How the model answers `text`."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def broken(self) -> bool:
        """Whether the server reports an error inside a 200."""
        return "breakdown" in self.text

    @property
    def status(self) -> int | None:
        """Status of an HTTP error; None where there is none."""
        return next((status for word, status in FAULTS.items() if word in self.text), None)

    @property
    def thought(self) -> str:
        return THOUGHT if "ponder" in self.text else ""

    @property
    def calls(self) -> tuple[Call, ...]:
        return _CALLS if "forecasts" in self.text else _CALLS[:1] if "forecast" in self.text else ()

    @cached_property
    def said(self) -> str:
        """The text of the answer: a model that calls tools says nothing."""
        return "" if self.calls else answer_to(self.text)

    @cached_property
    def words(self) -> list[str]:
        """Pieces that add up to `said`."""
        return [f"{word} " for word in self.said.split(" ")[:-1]]

    @property
    def prompt_tokens(self) -> int:
        return len(self.text.split())

    @property
    def thought_tokens(self) -> int:
        return len(self.thought.split())

    @property
    def completion_tokens(self) -> int:
        """Of the text, the thought and the calls together."""
        return len(self.said.split()) + self.thought_tokens + 5 * len(self.calls)

    async def played(
        self, opening: Iterable[bytes], body: Iterable[bytes], closing: Iterable[bytes], error: Iterable[bytes]
    ) -> AsyncIterator[bytes]:
        """A stream of this answer: its parts in order, or as much of them as arrives before it goes wrong."""
        wrong = next((word for word in ("breakdown", "halfway", "endless") if word in self.text), None)
        for piece in chain(opening, body if wrong is None else list(body)[:_BEGUN]):
            yield piece
        if wrong == "endless":
            await asyncio.Event().wait()
        for piece in closing if wrong is None else error if wrong == "breakdown" else ():
            yield piece


def text_of(content: Any) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def events(*values: dict[str, Any], named: bool = False) -> Iterable[bytes]:
    """Server-sent events; `named` also has each one's `type` as its name."""
    for value in values:
        name = f"event: {value['type']}\n".encode() if named else b""
        yield name + b"data: " + orjson.dumps(value) + b"\n\n"


def lines(*values: dict[str, Any]) -> Iterable[bytes]:
    """One JSON object a line."""
    return (orjson.dumps(value) + b"\n" for value in values)


def json_answer(request: Request, body: Any, status: int = 200) -> Response:
    """A whole answer in JSON, under the request id of the API that was asked."""
    return Response(orjson.dumps(body), status, headers=_request_id(request), media_type="application/json")


def streamed(request: Request, pieces: AsyncIterator[bytes], media_type: str = "text/event-stream") -> Response:
    """An answer that comes in pieces."""
    return StreamingResponse(pieces, headers=_request_id(request), media_type=media_type)


def http_error(request: Request, script: Script, body: dict[str, Any]) -> Response | None:
    """The HTTP error that the text asks for, to be tried again soon; None where it asks for none."""
    if script.status is None:
        return None
    answer = json_answer(request, body, script.status)
    answer.headers["retry-after"] = "0.1"
    return answer


def is_anthropic(request: Request) -> bool:
    """Whether Anthropic's SDK asks; some paths serve two APIs."""
    return "anthropic-version" in request.headers


def id_of(text: str) -> str:
    """A name that the same text always gets."""
    return f"{zlib.crc32(text.encode()):08x}"


def _request_id(request: Request) -> dict[str, str]:
    name = "request-id" if is_anthropic(request) else "x-request-id"
    return {name: f"req_{id_of(request.url.path)}"}
