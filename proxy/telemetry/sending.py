"""One request to a receiver of OTLP over HTTP, and what its answer means.

2xx                               taken, but for what it says that it rejects
429, 502, 503, 504, no answer     later: after `Retry-After`, else after a pause that grows
401, 403                          later, too: somebody has to mend a key, and nothing is lost meanwhile
413                               too large at once: in halves
anything else                     never: left out, and counted
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal

import aiohttp

from proxy.printable import printable
from proxy.version import __version__
from proxy.wire.retry_after import retry_after_s

__all__ = ["Meaning", "OtlpAnswer", "OtlpSender", "Signal"]

Signal = Literal["traces", "logs"]
_LATER: Final = frozenset((401, 403, 429, 502, 503, 504))
_TIMEOUT_S: Final = 10.0
_EXCERPT: Final = 200


class Meaning(Enum):
    """What follows from an answer."""

    TAKEN = auto()
    LATER = auto()
    TOO_LARGE = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpAnswer:
    """What came of one request."""

    meaning: Meaning
    why: str = ""
    """In words, where it was not taken."""
    retry_after_s: float | None = None
    body: bytes = b""


class OtlpSender:
    """Use as a context manager; one request at a time."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], *, timeout_s: float = _TIMEOUT_S) -> None:
        """`endpoint`: base URL, to which /v1/traces and /v1/logs are added."""
        self._endpoint = endpoint.rstrip("/")
        kind = {"Content-Type": "application/x-protobuf", "User-Agent": f"ratchet/{__version__}"}
        self._headers = {**kind, **headers}
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s))

    async def __aenter__(self) -> OtlpSender:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def send(self, signal: Signal, content: bytes) -> OtlpAnswer:
        """Post it. Raises nothing for what the receiver does."""
        url = f"{self._endpoint}/v1/{signal}"
        try:
            async with self._session.post(url, data=content, headers=self._headers, allow_redirects=False) as response:
                body = await response.content.read(1 << 20)
                asked = retry_after_s(response.headers)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            return OtlpAnswer(meaning=Meaning.LATER, why=f"{signal}: {_no_answer(exc)}")
        status = response.status
        if 200 <= status < 300:
            return OtlpAnswer(meaning=Meaning.TAKEN, body=body)
        why = f"{signal}: HTTP {status}{_excerpt(body, response.content_type)}"
        meaning = Meaning.LATER if status in _LATER else Meaning.TOO_LARGE if status == 413 else Meaning.NEVER
        return OtlpAnswer(meaning=meaning, why=why, retry_after_s=asked if meaning is Meaning.LATER else None)


def _no_answer(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    number = getattr(getattr(exc, "os_error", exc), "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(exc).__name__


def _excerpt(body: bytes, content_type: str) -> str:
    """Of an answer in words; a protobuf is none."""
    if "protobuf" in content_type or not body:
        return ""
    return f" {printable(body[:_EXCERPT].decode('utf-8', 'replace'))}"
