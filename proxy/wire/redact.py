"""Redaction: the captured copy is cleaned before it reaches the disk; what is forwarded is never touched.

A pattern must see what a person would read, so the body is decoded first, a stream of words is put together before it
is searched, and escapes are undone as far as they go (see `proxy.wire.redaction`). Whatever goes wrong on the way, the
raw body does not pass: it becomes `[redaction failed]`.

`quick` does what surely takes less than a millisecond, for whoever must not wait; all else is for a process apart.
"""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote_plus

import orjson

from proxy.callables import imported
from proxy.patterns import Engine, Haystack, compile_pattern
from proxy.wire.decode import NotEncodedError, decode
from proxy.wire.extract.framing import framing_of
from proxy.wire.extract.model import Streamed
from proxy.wire.extract.stream import read_stream
from proxy.wire.extract.values import REDACTED
from proxy.wire.headers import charset, media_type
from proxy.wire.lenient import mended_text, text_of
from proxy.wire.redaction.texts import Texts
from proxy.wire.redaction.torn import may_be_torn, mend_lines, mend_members, mend_strings, without_ends

__all__ = ["DECODED_LIMIT", "FAILED", "NOT_RECORDED", "REDACTED", "RedactionSettings", "Redactor"]

FAILED: Final = "[redaction failed]"
NOT_RECORDED: Final = "[not recorded: redaction took too long]"
DECODED_LIMIT: Final = 4 << 20
"""Bytes of a decoded body, where nothing else is said."""
_TORN_CHARS: Final = 256
"""Of the end of a body that was cut: a match that is torn there is no match, and may be nearly all of a secret."""
_QUICK: Final = 16 << 10
_QUICK_ESCAPED: Final = 8 << 10
_QUICK_CHANGED: Final = 256
_QUICK_TEXTS: Final = 1 << 10
"""Bytes that are looked at, looked at with escapes in them, and cleaned, in half a millisecond (measured: some 15, 50
and 2,000 ns each); and characters of targets and headers that are looked at."""
_PROBE: Final = 4 << 10
_QUICK_MS: Final = 0.25
"""So long the search of a body may take at once: where the patterns are slow, less is searched."""
_SAMPLES: Final = ("a", "1", "a.", "Ä 1@b, ", "x" * 40 + " ", "a@b ")
_WIDE_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_WIDE: Final = ((True, False, True, False), (False, True, False, True), (True, False, False, False),
                (False, False, False, True))  # fmt: skip
"""Which of the first four bytes of JSON in UTF-16 and UTF-32 are not zero."""
_log = logging.getLogger(__name__)


class RedactionSettings(Protocol):
    """What `Redactor` needs to know; `proxy.config`'s RedactionConfig is one."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Regular expressions; each match becomes `[redacted]`."""
        ...

    @property
    def engine(self) -> Engine:
        """What runs them."""
        ...

    @property
    def callable(self) -> str | None:
        """`package.module:function` taking and returning text, applied after the patterns."""
        ...


class Redactor:
    """Cleans what was captured. Raises ValueError at construction where a pattern or the callable cannot be used."""

    def __init__(self, settings: RedactionSettings, *, limit: int = DECODED_LIMIT) -> None:
        self._limit = limit
        self._texts = Texts([_compiled(pattern, settings.engine) for pattern in settings.patterns])
        self._function = _imported(settings.callable) if settings.callable else None
        self._swift = settings.engine == "re2" and self._function is None

        self._quick = self._measured() if self._swift else 0
        self.trouble: str | None = None
        """The kind of exception that came last. Its own words are said nowhere: they may quote the text."""

    def clean(self, body: bytes, content_type: str, content_encoding: str, *, cut: bool = False) -> bytes:
        """`body` as cleaned UTF-8 text: decoded, put together where it is a stream, at most `limit` bytes read.

        Bytes that are no text in the declared charset pass as they are, around the matches. `cut`: the copy ends before
        the body did. Never raises.
        """
        return self.clean_answer(body, content_type, content_encoding, cut=cut)[0]

    def clean_answer(
        self, body: bytes, content_type: str, content_encoding: str, *, cut: bool = False
    ) -> tuple[bytes, Streamed | None]:
        """`body` as `clean` gives it, and what its events said of themselves where it was a stream: only here can that
        be known, for what is kept of a stream is what it adds up to.

        Of the reading, the document, the events and the words of the error are raw; the rest is safe to keep.
        """
        if not body:
            return body, None
        stream = None
        try:
            plain = self._plain(body, content_encoding)
            stream = read_stream(plain, content_type, cut=cut)
            return _encoded(self._text(plain, content_type, stream, cut=cut)), stream
        except Exception as exc:  # noqa: BLE001 - a plug-in's edge: anything may come, and nothing raw may pass
            return self._failed(exc).encode(), stream

    def quick(self, body: bytes, content_type: str, content_encoding: str, *, cut: bool = False) -> bytes | None:
        """What `clean` gives, where that takes a fraction of a millisecond and `body` is no stream; None otherwise."""
        if not body:
            return body
        if not self._swift or content_encoding or len(body) > self._quick:
            return None
        if len(body) <= _QUICK_CHANGED:
            stream = framing_of(body, content_type) is not None
            return None if stream else self.clean(body, content_type, content_encoding, cut=cut)
        if cut or (len(body) > _QUICK_ESCAPED and b"\\" in body) or framing_of(body, content_type) is not None:
            return None
        text = _decoded(body, content_type)
        return _encoded(text) if not may_be_torn(text) and self._texts.surely_clean(text) else None

    def quick_texts(self, texts: Sequence[str]) -> bool:
        """Whether short texts are so short that they may be cleaned at once."""
        size = sum(map(len, texts))
        return self._swift and size <= _QUICK_TEXTS and (size <= _QUICK_CHANGED or self.clear(texts))

    def clear(self, texts: Sequence[str]) -> bool:
        """Whether nothing is to be cleaned in any of these texts, targets among them, for sure."""
        if self._function is not None or self._texts.anchored:
            return False
        return not self._texts.covers("\n".join(texts), form=True)

    def clean_text(self, text: str) -> str:
        """A short text (a comment, a header) cleaned the same way. Never raises."""
        try:
            return self._called(self._texts.cleaned(text))
        except Exception as exc:  # noqa: BLE001 - as above
            return self._failed(exc)

    def clean_target(self, target: str) -> str:
        """A request target, searched as it is and as what its percent-encoding says. Never raises."""
        try:
            cleaned = self._texts.cleaned(target, form=True)
            if self._function is None:
                return cleaned
            readable = unquote_plus(cleaned)
            changed = self._called(readable)
            return cleaned if changed == readable else quote(changed, safe="/?&=:@!$'()*,;+[]~-._")
        except Exception as exc:  # noqa: BLE001 - as above
            return self._failed(exc)

    def _measured(self) -> int:
        """How many bytes can be searched in a fraction of a millisecond by these patterns."""
        probes = [Haystack(sample * (_PROBE // len(sample))) for sample in _SAMPLES]
        longest_s = max(min(self._search_s(probe) for _ in range(3)) for probe in probes)
        return min(_QUICK, int(_QUICK_MS / 1000 / longest_s * _PROBE))

    def _search_s(self, hay: Haystack) -> float:
        started = perf_counter()
        self._texts.found_in(hay)
        return perf_counter() - started

    def _failed(self, exc: Exception) -> str:
        """What stands in for the text."""
        self.trouble = type(exc).__name__
        _log.error("redaction failed, the captured text is dropped: %s", self.trouble)
        return FAILED

    def _plain(self, body: bytes, content_encoding: str) -> bytes:
        try:
            return decode(body, content_encoding, self._limit)
        except NotEncodedError:
            return body  # it says so, and is not

    def _text(self, body: bytes, content_type: str, stream: Streamed | None, *, cut: bool) -> str:
        """The cleaned text of `body`, which read as `stream` where it is one, without the end of what is `cut`."""
        if stream is not None:
            known = stream.document is not None
            whole = stream.document if known else stream.merged
            if whole is not None:
                whole = mend_members(whole, self._texts, anywhere=not known)
                if cut:
                    whole = without_ends(whole, body, _TORN_CHARS)
                return self._called(self._texts.cleaned(_dumped(whole)))
        text = _decoded(body, content_type)
        if stream is not None:
            text = mend_lines(text, self._texts)
        form = media_type(content_type) == "application/x-www-form-urlencoded"
        if self._function is not None:
            text = unquote_plus(text, errors="surrogateescape") if form else _readable(text)
        text = self._texts.cleaned(text, form=form)
        text = self._called(self._without_torn(text) if may_be_torn(text) else text)
        return text[:-_TORN_CHARS] if cut else text

    def _without_torn(self, text: str) -> str:
        """`text` without what is torn: over the elements of a list, which may be pieces of one answer, over the parts
        of a message, or over the strings of what is no JSON."""
        try:
            found = json.loads(text.lstrip("\ufeff"), strict=False)
        except (ValueError, RecursionError):
            return mend_strings(text, self._texts)
        before = _dumped(found)
        after = _dumped(mend_members([found], self._texts, only="text" if isinstance(found, dict) else None)[0])
        return text if before == after else after

    def _called(self, text: str) -> str:
        if self._function is None:
            return text
        text = self._function(text)
        if not isinstance(text, str):
            raise TypeError("the redaction callable did not return a string")
        return text


def _decoded(body: bytes, content_type: str) -> str:
    """The text of `body`: stray bytes stay as they are; other charsets and byte order marks are honoured, but for JSON
    that is UTF-8 after all."""
    other = _codec(content_type) != "utf-8" and not _is_json(body)
    if other or body.startswith(_WIDE_MARKS) or (tuple(map(bool, body[:4])) in _WIDE and body[:4].isascii()):
        return text_of(body, charset(content_type))
    return body.decode("utf-8", "surrogateescape")


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return mended_text(text).encode()  # half a character


def _readable(text: str) -> str:
    """JSON written again without escapes, for a function that looks for words; other text as it is."""
    if "\\" not in text or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return _dumped(json.loads(text))
    except (ValueError, RecursionError):
        return text  # cut, or no JSON after all


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _codec(content_type: str) -> str:
    name = charset(content_type) or "utf-8"
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return "utf-8"
    return "utf-8" if found == "ascii" else found


def _compiled(pattern: str, engine: Engine) -> Any:
    try:
        return compile_pattern(pattern, engine)
    except ValueError as exc:
        raise ValueError(f"capture.redaction.patterns: {pattern!r} {exc}") from exc


def _imported(name: str) -> Callable[[str], str]:
    try:
        return imported(name)
    except TypeError as exc:
        raise ValueError(f"capture.redaction.callable: {exc}") from exc
    except (ImportError, AttributeError, ValueError) as exc:
        raise ValueError(f"capture.redaction.callable: {name!r} cannot be imported: {exc}") from exc
