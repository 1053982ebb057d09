"""From a captured exchange to what it says: find the shape by path and body, then let it read.

A path alone proves nothing (anybody may serve anything anywhere) and a body alone little, so both must agree;
what agrees with nothing is generic JSON, and what is no JSON stays raw.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.wire.extract import chat, completions, embeddings, generic, kserve, messages, ollama, responses
from proxy.wire.extract.model import Answer, Ask, CapturedExchange, Extraction, Kind, Pointers
from proxy.wire.extract.stream import is_stream, reassemble
from proxy.wire.extract.values import mapping, text
from proxy.wire.headers import is_json
from proxy.wire.pointer import MISSING, first_found

__all__ = ["extract"]

_MAX_NAME: Final = 256
_MAX_ERROR: Final = 500
_MODEL_IN_PATH: Final = re.compile(r"/models/([^/:?]+)")
_NOWHERE: Final = Pointers()


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: Kind
    suffixes: tuple[str, ...]
    fits: Callable[[dict[str, Any]], bool]
    ask: Callable[[dict[str, Any]], Ask]
    answer: Callable[[dict[str, Any]], Answer]


# The order matters where one suffix ends in another: /chat/completions, /api/generate.
_SHAPES: Final = (
    _Shape(Kind.CHAT, chat.SUFFIXES, chat.fits, chat.ask, chat.answer),
    _Shape(Kind.COMPLETIONS, completions.SUFFIXES, completions.fits, completions.ask, completions.answer),
    _Shape(Kind.RESPONSES, responses.SUFFIXES, responses.fits, responses.ask, responses.answer),
    _Shape(Kind.MESSAGES, messages.SUFFIXES, messages.fits, messages.ask, messages.answer),
    _Shape(Kind.EMBEDDINGS, embeddings.SUFFIXES, embeddings.fits, embeddings.ask, embeddings.answer),
    _Shape(Kind.OLLAMA, ollama.SUFFIXES, ollama.fits, ollama.ask, ollama.answer),
    _Shape(Kind.KSERVE, kserve.SUFFIXES, kserve.fits, kserve.ask, kserve.answer),
)


def extract(exchange: CapturedExchange, pointers: Pointers = _NOWHERE) -> Extraction:
    """What `exchange` says. Never raises: what is not understood is None, and the kind says how much was."""
    path = exchange.target.partition("?")[0].rstrip("/")
    request = _json(exchange.request, exchange.request_type)
    response = _json(exchange.response, exchange.response_type)
    reassembled = None
    streamed = is_stream(exchange.response_type)
    if response is None and streamed:
        response = reassembled = reassemble(exchange.response, exchange.response_type)
    shape = _shape(path, exchange, request, response)
    fields, found = mapping(request), mapping(response)
    if shape is not None:
        asked, answered = shape.ask(fields), shape.answer(found)
    elif request is None and response is None:
        asked, answered = Ask(), Answer()
    else:
        asked, answered = generic.ask(request, pointers), generic.answer(response, pointers)
    return Extraction(
        kind=_kind(shape, request, response),
        query=asked.query,
        response=answered.text if exchange.status < 400 else None,
        messages=tuple(asked.messages),
        model=_model(path, fields, found),
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=answered.completion_tokens,
        finish_reason=_name(answered.finish_reason),
        provider_id=_name(answered.provider_id),
        user=_user(request, fields, pointers),
        quality=_quality(first_found(pointers.quality, response)),
        json_requested=asked.json_requested,
        streamed=streamed,
        store=fields.get("store") is not False,
        refused=answered.refused,
        error=_error(exchange, found),
        reassembled=reassembled,
    )


def _json(body: bytes, content_type: str) -> Any:
    """The JSON value that `body` is, whatever its type claims (curl sends JSON as a form); None where it is none."""
    if not (body[:1] in (b"{", b"[") or is_json(content_type) or body[:64].lstrip()[:1] in (b"{", b"[")):
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _shape(path: str, exchange: CapturedExchange, request: Any, response: Any) -> _Shape | None:
    for shape in _SHAPES:
        if path.endswith(shape.suffixes):
            if request is None:  # cut in the middle (long contexts are): the answer has to prove the shape
                return shape if exchange.request and shape.answer(mapping(response)).text is not None else None
            if shape.fits(mapping(request)):
                return shape
    return None


def _kind(shape: _Shape | None, request: Any, response: Any) -> Kind:
    if shape is not None:
        return shape.kind
    return Kind.OTHER if request is None and response is None else Kind.JSON


def _model(path: str, request: dict[str, Any], response: dict[str, Any]) -> str | None:
    for name in (response.get("model"), response.get("model_name"), request.get("model")):
        if isinstance(name, str) and name:
            return name[:_MAX_NAME]
    in_path = _MODEL_IN_PATH.search(path)
    return in_path[1][:_MAX_NAME] if in_path else None


def _name(value: str | None) -> str | None:
    return value[:_MAX_NAME] if value else None


def _user(request: Any, fields: dict[str, Any], pointers: Pointers) -> str | None:
    """The fields that clients put their user into, then the configured pointers."""
    named = (fields.get("safety_identifier"), fields.get("user"), mapping(fields.get("metadata")).get("user_id"))
    found = next((value for value in named if isinstance(value, str) and value), None)
    if found is None:
        pointed = first_found(pointers.user, request)
        found = str(pointed) if isinstance(pointed, str | int) and pointed != "" else None
    return found


def _quality(value: Any) -> float | None:
    """A score in [0, 1]; anything else is none (true is no score)."""
    if value is MISSING or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None


def _error(exchange: CapturedExchange, response: dict[str, Any]) -> str | None:
    """What the upstream said went wrong: OpenAI's and Anthropic's `error`, FastAPI's `detail`, or the plain text."""
    error = response.get("error")
    found = text(error) or text(mapping(error).get("message")) or text(mapping(error).get("type"))
    if found is None and exchange.status >= 400:
        found = text(response.get("detail")) or text(response.get("message"))
        if found is None and not response:
            found = exchange.response[: 4 * _MAX_ERROR].decode("utf-8", "replace").strip()
    return found[:_MAX_ERROR] if found else None
