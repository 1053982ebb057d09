"""From a captured exchange to what it says: find the shape by path and body, then let it read.

A path alone proves nothing (anybody may serve anything anywhere) and a body alone little, so both must agree;
what agrees with nothing is generic JSON, and what is no JSON stays raw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote

import orjson

from policies.conversation import Conversation, Lack, Turn
from policies.kinds import JSON, OTHER
from proxy.wire.extract import generic
from proxy.wire.extract.conversations.calltext import is_call_text, may_be_call, offered
from proxy.wire.extract.conversations.plain import other
from proxy.wire.extract.failures import MAX_ERROR_CHARS, bad_finish, error_of, error_text, lone_error_of, only_error_of
from proxy.wire.extract.model import (
    CapturedExchange,
    Extraction,
    ParsedRequest,
    ParsedResponse,
    Pointers,
    Shape,
    Streamed,
)
from proxy.wire.extract.shapes import SHAPES, served_at
from proxy.wire.extract.stream import read_array, read_stream
from proxy.wire.extract.values import mapping, text
from proxy.wire.headers import charset, is_event_stream, is_frames, is_json, is_ndjson
from proxy.wire.lenient import crowded, read_json
from proxy.wire.person import (
    CONVERSATION_STEPS,
    MORE_CONVERSATION_FIELDS,
    conversation_of,
    reduce_user,
    user_of,
)
from proxy.wire.pointer import MISSING, first_found

__all__ = ["converse", "extract"]

_MAX_NAME: Final = 256
_MODEL_IN_PATH: Final = re.compile(r"/model/([^/]+)/|/(?:tunedM|m)odels/([^/:]+)")
"""Bedrock's names have colons, which elsewhere begin what is to be done with the model."""
_NOWHERE: Final = Pointers()
_PLAIN: Final = "application/json"
_MAX_TURNS: Final = 10_000
"""Of a conversation, or of an answer, that is read: a chat that is sent whole every time has hundreds."""
_TURNS: Final = frozenset(name for shape in SHAPES for name in shape.turns)
_ANSWERS: Final = frozenset(name for shape in SHAPES for name in shape.answers)
"""Where they stand, whatever the shape: a body is measured before anybody knows whose it is."""
_CROWD: Final = object()
"""JSON, or something like it, of more values or turns than are read."""
_BEFORE_JSON: Final = b" \t\r\n\xef\xbb\xbf\xff\xfe\0"
"""White space, byte order marks, and the other half of characters in UTF-16."""


_Body = tuple[Any, Streamed | None, bool]
"""A body as read: its JSON value, the reading of a stream where it was one, and whether it could not be read."""


def extract(exchange: CapturedExchange, pointers: Pointers = _NOWHERE) -> Extraction:
    """What `exchange` says. Never raises: what is not understood is None, and the kind says how much was."""
    try:
        return _extract(exchange, pointers)
    except RecursionError:  # nested more deeply than anybody writes who wants to be understood
        return Extraction(kind=OTHER.name, unread=True, store=False)


def _extract(exchange: CapturedExchange, pointers: Pointers) -> Extraction:
    path = exchange.target.partition("?")[0].rstrip("/")
    request, request_unread = _request(exchange)
    response, stream, response_unread = _response(exchange)
    fields, found = mapping(request), _object(response)
    shape = _shape(path, exchange, request, found)
    if shape is not None:
        parsed_request, parsed_response = shape.parse_request(fields), shape.parse_response(found)
    elif request is None and response is None:
        parsed_request, parsed_response = ParsedRequest(), ParsedResponse()
    else:
        parsed_request = generic.parse_request(request, pointers)
        parsed_response = generic.parse_response(response, pointers)
    went_well, kind = exchange.status < 400, exchange.response_type
    in_band = _in_band(found, parsed_response, stream, known=shape is not None, status=exchange.status)
    read = Extraction.__new__(Extraction)  # member by member: its constructor takes ten times as long, compiled
    read.kind = _kind(shape, request, response)
    read.query = parsed_request.query
    read.response = _response_text(parsed_response.text, stream) if went_well else None
    read.messages = tuple(parsed_request.messages)
    read.model = _name(parsed_response.model or parsed_request.model) or _model(path, fields, found)
    read.prompt_tokens = parsed_response.prompt_tokens
    read.completion_tokens = parsed_response.completion_tokens
    read.cache_read_tokens = parsed_response.cache_read_tokens
    read.cache_write_tokens = parsed_response.cache_write_tokens
    read.reasoning_tokens = parsed_response.reasoning_tokens
    read.finish_reason = _name(parsed_response.finish_reason)
    read.provider_id = _name(parsed_response.provider_id)
    read.user = _user(request, fields, pointers)
    read.conversation = _conversation(fields) or _name(parsed_response.conversation)
    read.quality = _quality(first_found(pointers.quality, response))
    read.json_requested = parsed_request.json_requested
    read.streamed = stream is not None or (kind != _PLAIN and _is_stream(kind))
    read.store = fields.get("store") is not False
    read.refused = parsed_response.refused
    read.malformed = _malformed(fields, parsed_response)
    read.error = in_band if went_well or in_band else _refusal(exchange, found)
    read.failed = went_well and in_band is not None
    read.whole = stream.whole if stream is not None else None
    read.unread = request_unread or response_unread
    read.request_unread = request_unread
    read.first_content = stream.first_content if stream is not None else 1 if exchange.response else None
    read.reassembled = stream.document if stream is not None and isinstance(stream.document, dict) else None
    read.request_fields = fields
    return read


def converse(exchange: CapturedExchange) -> Conversation:
    """The typed conversation of `exchange`, by the shape that `extract` finds. Never raises: what cannot be read lacks
    UNREAD. Of JSON of no known shape the common names are tried, and chat's; pointers know nothing of conversations.
    """
    try:
        return _converse(exchange)
    except RecursionError:
        return Conversation(turns=(), answer=Turn(role="assistant"), lacks=Lack.UNREAD)


def _converse(exchange: CapturedExchange) -> Conversation:
    path = exchange.target.partition("?")[0].rstrip("/")
    request, request_unread = _request(exchange)
    response, _, response_unread = _response(exchange)
    fields, found = mapping(request), _object(response)
    shape = _shape(path, exchange, request, found)
    if shape is not None:
        conversation = shape.converse(fields, found)
    else:
        conversation = other(
            fields, generic.parse_request(request, _NOWHERE).query, generic.parse_response(response, _NOWHERE), found
        )
    if request_unread or response_unread or request is None or response is None:
        conversation.lacks = Lack.UNREAD
    return conversation


def _is_stream(content_type: str) -> bool:
    return is_event_stream(content_type) or is_ndjson(content_type) or is_frames(content_type)


def _request(exchange: CapturedExchange) -> tuple[Any, bool]:
    """The JSON value that the request is (None: none), and whether it claims to be one and cannot be read."""
    value = _json(exchange.request, exchange.request_type, exchange.parsed)
    if value is _CROWD or (len(exchange.request) > _MAX_TURNS and _is_crowd(value, _TURNS)):
        return None, True
    if value is not None or exchange.request_cut:
        return value, False
    return None, is_json(exchange.request_type) and exchange.request not in (b"", b"null")


def _response(exchange: CapturedExchange) -> _Body:
    """The response as JSON, be it the events of a stream put together."""
    body, kind = exchange.response, exchange.response_type
    value = None if kind != _PLAIN and is_ndjson(kind) else _json(body, kind)
    if value is _CROWD or (len(body) > _MAX_TURNS and _is_crowd(value, _ANSWERS)):
        return None, None, True
    if value is not None:
        array = read_array(value, body) if isinstance(value, list) else None
        return (value, None, False) if array is None else (array.document, array, False)
    stream = read_stream(body, kind, cut=exchange.response_cut) if body or exchange.status else None
    if stream is not None:
        return stream.merged if stream.document is None else stream.document, stream, stream.unread
    return None, None, is_json(kind) and body not in (b"", b"null") and not exchange.response_cut


def _json(body: bytes, content_type: str, parsed: Any = None) -> Any:
    """The JSON value that `body` is, whatever its type claims (curl sends JSON as a form); None where it is none.
    `parsed` is that value, where somebody has parsed it."""
    if not (body[:1] in (b"{", b"[") or is_json(content_type) or body[:64].lstrip(_BEFORE_JSON)[:1] in (b"{", b"[")):
        return None
    if crowded(body):
        return _CROWD
    if parsed is not None:
        return parsed
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return read_json(body, charset(content_type))
    except ValueError:
        return None


def _is_crowd(document: Any, names: Iterable[str]) -> bool:
    """Whether there are too many turns under one of `names`: a body has as many bytes at least, so ask of long ones."""
    fields = mapping(document)
    return any(isinstance(turns := fields.get(name), list) and len(turns) > _MAX_TURNS for name in names)


def _shape(path: str, exchange: CapturedExchange, request: Any, found: dict[str, Any]) -> Shape | None:
    """The shape that path and request agree on; where several do, the one that finds its text in the answer.

    A request that was cut in the middle (long contexts are) says nothing: then the answer alone has to prove the shape.
    """
    served: Sequence[Shape] = served_at(path)
    if request is not None:
        fields = mapping(request)
        served = [shape for shape in served if shape.fits(fields)]
        if len(served) < 2:
            return served[0] if served else None
    elif not exchange.request:
        return None
    proven = next((shape for shape in served if shape.parse_response(found).text is not None), None)
    return proven if proven is not None or request is None else served[0]


def _object(response: Any) -> dict[str, Any]:
    """The object that the response is; a list of one object counts as that object (TGI's root answers so)."""
    return mapping(response[0]) if isinstance(response, list) and len(response) == 1 else mapping(response)


def _kind(shape: Shape | None, request: Any, response: Any) -> str:
    if shape is not None:
        return shape.kind.name
    return OTHER.name if request is None and response is None else JSON.name


def _response_text(answer: str | None, stream: Streamed | None) -> str | None:
    """The text of the answer. Where a stream was cut before its first word, nobody knows what it would have been."""
    if answer == "" and stream is not None and stream.whole is False:
        return None
    return answer


def _malformed(request: dict[str, Any], parsed_response: ParsedResponse) -> bool:
    """Whether the words of the answer are a call of a tool that was offered, which its server did not understand."""
    if "tools" not in request and "functions" not in request and "toolConfig" not in request:
        return False
    said = parsed_response.text if parsed_response.words is None else parsed_response.words
    if not said or not may_be_call(said):
        return False
    names = offered(request)
    return bool(names) and is_call_text(said, names)


def _in_band(
    found: dict[str, Any], parsed_response: ParsedResponse, stream: Streamed | None, *, known: bool, status: int
) -> str | None:
    """What the response itself says went wrong, in words."""
    if stream is not None and stream.error is not None:
        return stream.error
    error = error_of(found) if known else only_error_of(found)
    if error is None and known and parsed_response.text is None and parsed_response.error is None and status == 200:
        error = lone_error_of(found)
    if error is not None:
        return error_text(error)
    return parsed_response.error or bad_finish(parsed_response.finish_reason)


def _refusal(exchange: CapturedExchange, response: dict[str, Any]) -> str | None:
    """What the body of an error status says went wrong: FastAPI's `detail`, a `message`, or the plain text."""
    found = error_text(error_of(response)) or text(response.get("detail")) or text(response.get("message"))
    if found is None and not response:
        found = exchange.response[: 4 * MAX_ERROR_CHARS].decode("utf-8", "replace").strip()
    return found[:MAX_ERROR_CHARS] if found else None


def _model(path: str, request: dict[str, Any], response: dict[str, Any]) -> str | None:
    for name in (response.get("model"), response.get("model_name"), response.get("modelVersion"), request.get("model")):
        if isinstance(name, str) and name:
            return name[:_MAX_NAME]
    in_path = _MODEL_IN_PATH.search(path)
    return unquote(in_path[1] or in_path[2])[:_MAX_NAME] if in_path else None


def _conversation(fields: dict[str, Any]) -> str | None:
    """The conversation that a request names, if only where the gateway does not look for a sticky key."""
    if CONVERSATION_STEPS.isdisjoint(fields):
        return None  # nearly every request
    return conversation_of(fields) or conversation_of(fields, MORE_CONVERSATION_FIELDS, ())


def _name(value: str | None) -> str | None:
    return value[:_MAX_NAME] if value else None


def _user(request: Any, fields: dict[str, Any], pointers: Pointers) -> str | None:
    """The fields that clients put their user into, then the configured pointers."""
    found = user_of(fields)
    if found is None and pointers.user:
        pointed = first_found(pointers.user, request)
        found = reduce_user(str(pointed))[0] or None if isinstance(pointed, str | int) else None
    return found


def _quality(value: Any) -> float | None:
    """A score in [0, 1]; anything else is none (true is no score)."""
    if value is MISSING or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None
