"""The values of extraction: what went over the wire, and what was understood of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from policies.conversation import Conversation
from policies.kinds import Kind
from proxy.wire.pointer import JsonPointer

__all__ = [
    "CapturedExchange",
    "Extraction",
    "ParsedRequest",
    "ParsedResponse",
    "Pointers",
    "Reader",
    "Shape",
    "StreamShape",
    "Streamed",
    "TokenCounts",
]

Reader = Callable[[dict[str, Any], dict[str, Any]], Conversation]
"""From a request and its response, any two JSON objects, to the conversation; raises nothing."""


@dataclass(slots=True, kw_only=True)
class CapturedExchange:
    """One exchange with its content encodings undone (see `proxy.wire.decode`). The bodies may be cut.

    Nobody changes one; not frozen, as Extraction.
    """

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
    request_cut: bool = False
    """The request is not all there (the copy was cut, or its connection): what breaks off is no fault of its own."""
    response_cut: bool = False
    """The same of the response."""
    parsed: Any = field(default=None, repr=False)
    """The JSON value that the request is by the strict reading, where it has been parsed already; None: it was not."""


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
class TokenCounts:
    """What the model says it counted: read from a response, taken over into an extraction, and a column of records."""

    prompt_tokens: int | None = None
    """With those that came from or went into a cache."""
    completion_tokens: int | None = None
    """With those of the reasoning."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(slots=True, kw_only=True)
class Extraction(TokenCounts):
    """What was understood of an exchange. None means that the exchange does not say.

    Not frozen, as are `ParsedRequest` and `ParsedResponse`: every record makes one, and a frozen one takes twice as
    long to make. `dispatch` makes it without its constructor, see there.
    """

    kind: str
    """The name of a kind."""
    query: str | None = None
    """The text of the last user turn, or the prompt."""
    response: str | None = None
    """The text that the model answered; tool calls are written as `<tool_call>{…}</tool_call>` lines."""
    messages: tuple[dict[str, str], ...] = ()
    """The conversation before the response (role, content), where the request was one."""
    model: str | None = None
    """The model's name as the response says it, else as the request asked for it."""
    finish_reason: str | None = None
    provider_id: str | None = None
    """The provider's id of the answer, e.g. `chatcmpl-…`."""
    user: str | None = None
    """The end user as the request's body names them."""
    conversation: str | None = None
    """The conversation's id as the answer names it (Dify's does, which begins it); the gateway reads the request's."""
    quality: float | None = None
    """A score in [0, 1] that the response carries."""
    json_requested: bool = False
    streamed: bool = False
    store: bool = True
    """False where the request says `store: false`."""
    refused: bool = False
    """The provider itself marked the answer as a refusal."""
    malformed: bool = False
    """The words of the answer are a tool call that its server did not understand; see `conversations.calltext`."""
    error: str | None = None
    """What the upstream said went wrong, also in the middle of a stream."""
    failed: bool = False
    """The answer says of itself that it failed, though its status does not: an error in its body or its events."""
    whole: bool | None = None
    """Whether a stream came to its terminal mark; None where there is no stream, or nobody knows its marks."""
    unread: bool = False
    """A part of the request, or of the answer, could not be read: what is here is not all that was said."""
    request_unread: bool = False
    """The same of the request alone."""
    first_content: int | None = None
    """How many bytes of the (decoded) response had come when its first content was there: text, reasoning or a call;
    None where a stream had none, or its shape is not known. Of an answer that is no stream: its first byte, 1."""
    reassembled: dict[str, Any] | None = None
    """A streamed response in the shape of its non-streamed sibling."""
    request_fields: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The request's JSON object as it was read; empty where there was none. Not to be changed."""


@dataclass(slots=True, kw_only=True, init=False)
class ParsedRequest:
    """What a shape reads from a request. Its constructor is written out, as that of ParsedResponse: compiled, the one
    that a data class is given takes ten times as long."""

    query: str | None
    messages: list[dict[str, str]]
    json_requested: bool
    model: str | None
    """Where it is not under `model`, or in the path."""

    def __init__(
        self,
        *,
        query: str | None = None,
        messages: list[dict[str, str]] | None = None,
        json_requested: bool = False,
        model: str | None = None,
    ) -> None:
        self.query = query
        self.messages = [] if messages is None else messages
        self.json_requested = json_requested
        self.model = model


@dataclass(slots=True, kw_only=True, init=False)
class ParsedResponse(TokenCounts):
    """What a shape reads from a response."""

    text: str | None
    words: str | None
    """The text without its tool calls, where it has any; None: all of it is words."""
    finish_reason: str | None
    """In the API's word where `policies.scoring` knows it, else in one that it knows."""
    provider_id: str | None
    model: str | None
    """See ParsedRequest.model."""
    conversation: str | None
    refused: bool
    error: str | None
    """What says that the answer failed, in words, where something does."""

    def __init__(
        self,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        text: str | None = None,
        words: str | None = None,
        finish_reason: str | None = None,
        provider_id: str | None = None,
        model: str | None = None,
        conversation: str | None = None,
        refused: bool = False,
        error: str | None = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cache_read_tokens = cache_read_tokens
        self.cache_write_tokens = cache_write_tokens
        self.reasoning_tokens = reasoning_tokens
        self.text = text
        self.words = words
        self.finish_reason = finish_reason
        self.provider_id = provider_id
        self.model = model
        self.conversation = conversation
        self.refused = refused
        self.error = error


@dataclass(slots=True, kw_only=True)
class Streamed:
    """A streamed response, read."""

    document: Any = None
    """The JSON that the unstreamed response would have been; None where nobody knows its events."""
    merged: Any = None
    """What the events of a stream of unknown shape add up to member by member, for pointers and common names."""
    whole: bool | None = None
    """See Extraction.whole."""
    error: str | None = None
    """What an event said went wrong, in words."""
    unread: bool = False
    """An event could not be read, or something stood where an event should have been."""
    first_content: int | None = None
    """See Extraction.first_content."""


class StreamShape(NamedTuple):
    """What a shape knows of its chunks: the events of its streams, each a JSON object."""

    matches: Callable[[dict[str, Any]], bool]
    """Whether a chunk is one of this shape's, and could be of no other."""
    merge_chunks: Callable[[Iterable[dict[str, Any]]], dict[str, Any]]
    """The unstreamed response that the chunks add up to."""
    is_last: Callable[[dict[str, Any]], bool] | None
    """Whether a chunk is the terminal mark; None where the shape has no such mark."""
    has_content: Callable[[dict[str, Any]], bool]
    """Whether a chunk carries content: text, reasoning or a call."""
    done: bool = False
    """Whether `data: [DONE]` is a terminal mark too."""
    several: tuple[str, str] | None = None
    """Where a response has several answers to one question, and which member of an answer says that it ended; None for
    an API that gives one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An API shape: where it is served, how it is recognised, and who reads it.

    Its functions take any JSON object and raise nothing.
    """

    name: str
    """In words, for the reference and for tests; no two shapes have the same."""
    kind: Kind
    """What its records are. Several shapes may share one."""
    suffixes: tuple[str, ...]
    """How its paths end."""
    fits: Callable[[dict[str, Any]], bool]
    """Whether a request is one of its own."""
    parse_request: Callable[[dict[str, Any]], ParsedRequest]
    parse_response: Callable[[dict[str, Any]], ParsedResponse]
    """Text, tokens and what failed; `tokens` counts a usage in OpenAI's or Anthropic's words."""
    converse: Reader
    """The typed conversation, from which models learn. `conversations.plain` makes the one of a prompt and a text."""
    stream: StreamShape | None = None
    """How its streams are read; None where it has none, or those of another shape."""
    paths: re.Pattern[str] | None = None
    """Searched for in a path (without query and last slash) that has none of the suffixes."""
    turns: tuple[str, ...] = ()
    """Members of a request that list its turns. One of more turns than anybody reads is left unread."""
    answers: tuple[str, ...] = ()
    """The same of a response: members that list answers, or the parts of one."""

    def serves(self, path: str) -> bool:
        """Whether it may be served at `path`."""
        return path.endswith(self.suffixes) or (self.paths is not None and self.paths.search(path) is not None)
