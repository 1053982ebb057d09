"""Other names of a record: what its provider, its client or the UI before it calls the same answer.

A vote that comes from elsewhere names the answer as its sender does: by a message, a trace or a run. Those names stand
in headers (`capture.alias_headers`). Those of clients may be as short as the number of a message; a server that calls
its answers `1` names nothing. They need not be unique: all requests of one turn of a chat carry the same; which
of them is meant is decided where votes are joined (`proxy.store.ingest.namesakes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

from proxy.config.serving import HASHED_ALIAS, CaptureConfig
from proxy.store.tables.keys import SHORT_NAME
from proxy.wire.extract.values import REDACTED

__all__ = ["MAX_ALIASES", "AliasReader"]

MAX_ALIASES: Final = 16
"""Of one record; each is a row."""
_LONGEST: Final = 256
_OWN: Final = ("x-ratchet-request-id", "x-request-id")
_ANSWERED: Final = (
    "x-request-id", "request-id", "x-litellm-call-id", "x-amzn-requestid", "helicone-id", "x-portkey-trace-id",
)  # fmt: skip
"""Of the answer's headers."""
_ANSWERED_NAMES: Final = frozenset(_ANSWERED)
_LANGFUSE_ID: Final = 32
"""Hex digits of a trace's id."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?", re.ASCII)
_RUN: Final = re.compile(r"\d{8}T\d{12}Z([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)
_NO_SPAN: Final = re.compile(r"0+")
_UNFILLED: Final = re.compile(r"\{\{.*\}\}")


class AliasReader:
    """Finds the names of records in their headers. Stateless between calls."""

    def __init__(self, capture: CaptureConfig) -> None:
        self._headers: Final = [
            (header.removesuffix(HASHED_ALIAS).lower(), _reader(header.lower())) for header in capture.alias_headers
        ]
        self._asked: Final = frozenset(_OWN) | {name for name, _ in self._headers}

    def of(self, provider_id: str | None, asked: Mapping[str, str], answered: Mapping[str, str]) -> tuple[str, ...]:
        """All names, each once: the answer's own id, then what the headers of request and answer say (lower-case
        names). What redaction has cut into is no name."""
        own = provider_id if provider_id and len(provider_id) >= SHORT_NAME else None
        unnamed = self._asked.isdisjoint(asked)
        if _ANSWERED_NAMES.isdisjoint(answered) and unnamed:  # most records
            return (own,) if own is not None and _is_alias(own) else ()
        found = [own] if unnamed else [own, *(asked.get(name) for name in _OWN)]
        found += [name for name in map(answered.get, _ANSWERED) if name and len(name) >= SHORT_NAME]
        found += () if unnamed else self._configured(asked)
        return tuple(dict.fromkeys(name for name in found if name and _is_alias(name)))[:MAX_ALIASES]

    def _configured(self, asked: Mapping[str, str]) -> Iterator[str]:
        for name, read in self._headers:
            value = asked.get(name, "").strip()
            if value and not _UNFILLED.fullmatch(value):
                yield from read(value)


def _reader(header: str) -> Callable[[str], Iterable[str]]:
    """What makes names of that header's value."""
    if header.endswith(HASHED_ALIAS):
        return _hashed
    return {"traceparent": _trace_and_span, "langsmith-trace": _runs}.get(header, lambda value: (value,))


def _hashed(value: str) -> tuple[str, ...]:
    """As LibreChat names the trace of a message, whose own ids are never short."""
    if len(value) < SHORT_NAME:
        return ()
    return (sha256(value.encode()).hexdigest()[:_LANGFUSE_ID],)


def _trace_and_span(value: str) -> tuple[str, ...]:
    """Of W3C's trace context; zeros stand for none."""
    found = _TRACEPARENT.fullmatch(value)
    return () if found is None else tuple(name for name in found.groups() if not _NO_SPAN.fullmatch(name))


def _runs(value: str) -> tuple[str, ...]:
    """The run that asks, and the one at the root of its trace: a "dotted order" has a time and an id for each."""
    places = value.split(".")
    return tuple(found[1] for place in (places[-1], places[0]) if (found := _RUN.fullmatch(place)))


def _is_alias(name: str) -> bool:
    return len(name) <= _LONGEST and REDACTED not in name
