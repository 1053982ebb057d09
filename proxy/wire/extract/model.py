"""The values of extraction: what went over the wire, and what was understood of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from proxy.wire.pointer import JsonPointer

__all__ = ["Answer", "Ask", "CapturedExchange", "Extraction", "Kind", "Pointers"]


class Kind(StrEnum):
    """The API shape of an exchange."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"
    OLLAMA = "ollama"
    KSERVE = "kserve"
    JSON = "json"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedExchange:
    """One exchange with its content encodings undone (see `proxy.wire.decode`). The bodies may be cut."""

    target: str
    """The raw request target: path and query."""
    status: int = 200
    """Response status; 0 where none was sent."""
    request: bytes = b""
    response: bytes = b""
    request_type: str = ""
    """Content-Type of the request."""
    response_type: str = ""
    """Content-Type of the response."""


@dataclass(frozen=True, slots=True)
class Pointers:
    """Where to look in bodies of unknown shape (query, response) and in any body (user, quality)."""

    query: tuple[JsonPointer, ...] = ()
    response: tuple[JsonPointer, ...] = ()
    user: tuple[JsonPointer, ...] = ()
    quality: tuple[JsonPointer, ...] = ()

    @classmethod
    def parse(
        cls,
        *,
        query: Iterable[str] = (),
        response: Iterable[str] = (),
        user: Iterable[str] = (),
        quality: Iterable[str] = (),
    ) -> Pointers:
        """Pointers from their text. Raises ValueError where one is no JSON pointer."""
        return cls(*(tuple(JsonPointer(text) for text in texts) for texts in (query, response, user, quality)))


@dataclass(slots=True, kw_only=True)
class Extraction:
    """What was understood of an exchange. None means that the exchange does not say.

    Not frozen, as are `Ask` and `Answer`: every record makes one, and a frozen one takes twice as long to make.
    """

    kind: Kind
    query: str | None = None
    """The text of the last user turn, or the prompt."""
    response: str | None = None
    """The text that the model answered; tool calls are written as `<tool_call>{…}</tool_call>` lines."""
    messages: tuple[dict[str, str], ...] = ()
    """The conversation before the response (role, content), where the request was one."""
    model: str | None = None
    """The model's name as the response says it, else as the request asked for it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    provider_id: str | None = None
    """The provider's id of the answer, e.g. `chatcmpl-…`."""
    user: str | None = None
    """The end user as the request's body names them."""
    quality: float | None = None
    """A score in [0, 1] that the response carries."""
    json_requested: bool = False
    streamed: bool = False
    store: bool = True
    """False where the request says `store: false`."""
    refused: bool = False
    """The provider itself marked the answer as a refusal."""
    error: str | None = None
    """What the upstream said went wrong, also in the middle of a stream."""
    reassembled: dict[str, Any] | None = None
    """A streamed response in the shape of its non-streamed sibling."""


@dataclass(slots=True, kw_only=True)
class Ask:
    """What a shape reads from a request."""

    query: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)
    json_requested: bool = False


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a shape reads from a response."""

    text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    provider_id: str | None = None
    refused: bool = False
