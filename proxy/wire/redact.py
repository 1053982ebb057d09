"""Redaction: the captured copy is cleaned before it reaches the disk; what is forwarded is never touched.

A pattern must see what a person would read, so the body is decoded first, JSON and forms are written again without
escapes that could hide a match, and a stream of words is put together before it is searched. Whatever goes wrong on
the way, the raw body does not pass: it becomes `[redaction failed]`.
"""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections.abc import Callable
from importlib import import_module
from typing import Final, Protocol
from urllib.parse import unquote_plus

from proxy.wire.decode import NotEncodedError, decode
from proxy.wire.extract.model import Streamed
from proxy.wire.extract.stream import read_stream
from proxy.wire.extract.values import REDACTED
from proxy.wire.headers import charset, media_type

__all__ = ["FAILED", "REDACTED", "RedactionSettings", "Redactor"]

FAILED: Final = "[redaction failed]"
_LIMIT: Final = 8 << 20
_log = logging.getLogger(__name__)


class RedactionSettings(Protocol):
    """What `Redactor` needs to know; `proxy.config`'s RedactionConfig is one."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Regular expressions; each match becomes `[redacted]`."""
        ...

    @property
    def callable(self) -> str | None:
        """`package.module:function` taking and returning text, applied after the patterns."""
        ...


class Redactor:
    """Cleans bodies. Raises ValueError at construction where a pattern or the callable cannot be used."""

    def __init__(self, settings: RedactionSettings, *, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._patterns = tuple(_compiled(pattern) for pattern in settings.patterns)
        self._function = _imported(settings.callable) if settings.callable else None

    def clean(self, body: bytes, content_type: str, content_encoding: str) -> bytes:
        """`body` as cleaned UTF-8 text: decoded, put together where it is a stream, at most `limit` bytes read.

        Bytes that are no text in the declared charset pass as they are, around the matches. Never raises.
        """
        return self.clean_answer(body, content_type, content_encoding)[0]

    def clean_answer(
        self, body: bytes, content_type: str, content_encoding: str, *, cut: bool = False
    ) -> tuple[bytes, Streamed | None]:
        """`body` as `clean` gives it, and what its events said of themselves where it was a stream: only here can that
        be known, for what is kept of a stream is what it adds up to. `cut`: the copy ends before the body did.

        Of the reading, the document, the events and the words of the error are raw; the rest is safe to keep.
        """
        if not body:
            return body, None
        stream = None
        try:
            plain = self._plain(body, content_encoding)
            stream = read_stream(plain, content_type, cut=cut)
            text = self._cleaned(_readable(plain, content_type, stream))
            return text.encode("utf-8", "surrogateescape"), stream
        except Exception as exc:  # noqa: BLE001 - a plug-in's edge: anything may come, and nothing raw may pass
            return _failed(exc).encode(), stream

    def _plain(self, body: bytes, content_encoding: str) -> bytes:
        try:
            return decode(body, content_encoding, self._limit)
        except NotEncodedError:
            return body  # it says so, and is not

    def clean_text(self, text: str) -> str:
        """A short text (a request target, a comment) cleaned the same way. Never raises."""
        try:
            return self._cleaned(text)
        except Exception as exc:  # noqa: BLE001 - as above
            return _failed(exc)

    def _cleaned(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        if self._function is not None:
            text = self._function(text)
            if not isinstance(text, str):
                raise TypeError("the redaction callable returned no text")
        return text


def _failed(exc: Exception) -> str:
    """What stands in for the text. The exception's own words are not logged: they may quote it."""
    _log.error("redaction failed, the captured text is dropped: %s", type(exc).__name__)
    return FAILED


def _readable(body: bytes, content_type: str, stream: Streamed | None) -> str:
    """The text of `body` as a person would read it."""
    if stream is not None and (whole := stream.merged if stream.document is None else stream.document) is not None:
        return _dumped(whole)
    text = body.decode(_codec(content_type), "surrogateescape")
    if media_type(content_type) == "application/x-www-form-urlencoded":
        return unquote_plus(text, errors="surrogateescape")
    if "\\" not in text:
        return text
    return "\n".join(map(_unescaped, text.split("\n"))) if stream is not None else _unescaped(text)


def _unescaped(text: str) -> str:
    """JSON, or a line of a stream that carries some, written again without escapes; other text as it is."""
    prefix = "data:" if text.startswith("data:") else ""
    payload = text.removeprefix(prefix)
    if payload.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return prefix + _dumped(json.loads(payload))
    except ValueError:
        return text  # cut, or no JSON after all


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _codec(content_type: str) -> str:
    name = charset(content_type) or "utf-8"
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "utf-8"


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise ValueError(f"capture.redaction.patterns: {pattern!r} is no regular expression: {exc}") from exc


def _imported(name: str) -> Callable[[str], str]:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ValueError(f"capture.redaction.callable: {name!r} cannot be imported: {exc}") from exc
    if not callable(function):
        raise ValueError(f"capture.redaction.callable: {name!r} is no function")
    return function  # type: ignore[no-any-return]
