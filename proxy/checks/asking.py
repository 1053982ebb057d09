"""Asks a model a recorded question, as its client did: same body, but for the model's name and rewrite.

What is asked has no effects: an answer that calls a tool is read, and nobody calls it. A server that is busy (429, 503,
529) is asked again after the wait that it names, and one that cannot be reached as well: neither says anything of the
model, so that in the end it counts as unreached, not as wrong. Any other answer is its answer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self

import aiohttp
import msgspec
import orjson

from policies.rewrite import RequestShape, kind_of
from proxy.checks.ports import Asked, AskedModel
from proxy.checks.reading import Read, no_answer, read
from proxy.clock import Clock
from proxy.version import __version__
from proxy.wire.decode import UnknownEncodingError, decode
from proxy.wire.retry_after import retry_after_s
from proxy.wire.rewriting import Rewriter

__all__ = ["BUSY", "Asker", "Unreached", "body_for"]

_MOST_READ: Final = 1 << 24
"""Bytes of an answer that are read."""
_ATTEMPTS: Final = 3
_FIRST_WAIT_S: Final = 0.25
_LONGEST_WAIT_S: Final = 20.0
BUSY: Final = (429, 503, 529)
"""What a server answers that has too much to do: nothing of its model."""
_CONNECT_S: Final = 10.0
"""For a connection, of the time that an answer has: none after that is no slow answer."""
_NOT_ALLOWED: Final = (401, 403)
_NAMING: Final = (RequestShape.CHAT, RequestShape.RESPONSES, RequestShape.MESSAGES)
"""APIs whose requests name the model in their body."""
_object: Final[Callable[[bytes], dict[str, msgspec.Raw]]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Unreached:
    """There was no answer, and that is not the model's fault as far as anybody can tell."""

    reason: str
    refused: bool = False
    """Its server wants a credential that we do not have."""
    status: int | None = None
    """What a server that is busy has answered."""


class Asker:
    """Asks models over HTTP; a context manager, for its connections."""

    def __init__(self, clock: Clock, *, timeout_s: float, connections: int, tls: ssl.SSLContext | None = None) -> None:
        """`timeout_s` is for each answer; `tls`: whom to trust beside the system's authorities."""
        self._tls = tls
        self._clock = clock
        self._timeout_s = timeout_s
        self._connect_s = min(_CONNECT_S, timeout_s / 2)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=2 * self._connections, ssl=self._tls or True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=self._connect_s),
            headers={"User-Agent": f"ratchet/{__version__}"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, endpoint: AskedModel, asked: Asked, *, model_name: bool) -> Read | Unreached:
        """The answer, or that there is none to be had just now. `model_name`: it has to name the model asked for."""
        body = await asyncio.to_thread(body_for, endpoint, asked)
        sent = replace(asked, body=body)
        wanted = endpoint.model if model_name else None
        unreached = Unreached("")
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(min(_FIRST_WAIT_S * 4 ** (attempt - 1), _LONGEST_WAIT_S))
            started = self._clock.monotonic()
            try:
                status, media_type, response, wait_s = await self._post(endpoint, sent)
            except aiohttp.ConnectionTimeoutError:  # nobody was asked, as behind a firewall that drops packets
                unreached = Unreached(f"{endpoint.url} cannot be reached (no connection within {self._connect_s:g} s)")
                continue
            except TimeoutError:
                return no_answer(sent, f"no answer within {self._timeout_s:g} s", wanted)
            except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as exc:
                if attempt == _ATTEMPTS - 1:
                    return no_answer(sent, f"its answer broke off ({type(exc).__name__})", wanted)
                continue
            except (aiohttp.ClientError, OSError) as exc:
                unreached = Unreached(f"{endpoint.url} cannot be reached ({str(exc) or type(exc).__name__})")
                continue
            latency_s = self._clock.monotonic() - started
            if status in _NOT_ALLOWED and not endpoint.headers:
                return Unreached(f"{endpoint.url} asks for a credential (HTTP {status})", refused=True)
            if status in BUSY:
                unreached = Unreached(f"{endpoint.url} is busy (HTTP {status})", status=status)
                if attempt < _ATTEMPTS - 1:
                    await asyncio.sleep(min(wait_s or 0.0, _LONGEST_WAIT_S))
                continue
            return await asyncio.to_thread(
                read,
                sent,
                status=status,
                response=response,
                media_type=media_type,
                latency_s=latency_s,
                asked_model=wanted,
            )
        return unreached

    async def _post(self, endpoint: AskedModel, asked: Asked) -> tuple[int, str, bytes, float | None]:
        assert self._session is not None
        url = endpoint.url.rstrip("/") + asked.target
        headers = {"content-type": "application/json", **asked.headers, **endpoint.headers}
        async with self._session.post(url, data=asked.body, headers=headers, allow_redirects=False) as answer:
            plain = _decoded(await _body_of(answer), answer.headers.get("content-encoding", ""))
            return answer.status, answer.headers.get("content-type", ""), plain, retry_after_s(answer.headers)


async def _body_of(answer: aiohttp.ClientResponse) -> bytes:
    """Its body, or as much of it as is read of any."""
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size >= _MOST_READ:
            break
    return b"".join(pieces)


def body_for(endpoint: AskedModel, asked: Asked) -> bytes:
    """The body with what the endpoint changes in it; as it is where that is nothing, or where it is no JSON object.

    All else keeps its bytes, as in the gateway: what is nested deep, or has more digits than a float, is sent again.
    """
    body = asked.body
    if endpoint.rewrite is not None:
        body = Rewriter(endpoint.rewrite.as_json()).body(asked.target, body)
    if endpoint.model is None:
        return body
    try:
        document = _object(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return body
    if "model" not in document and kind_of(asked.target, document) not in _NAMING:
        return body
    return msgspec.json.encode({**document, "model": msgspec.Raw(orjson.dumps(endpoint.model))})


def _decoded(body: bytes, encoding: str) -> bytes:
    """The body as its encoding says, or as it came where it is not what that says: users get it all the same."""
    try:
        return decode(body, encoding, _MOST_READ) or body
    except UnknownEncodingError:
        return body
