"""The cases of `tests/cases`: requests and answers as data, played byte for byte before and behind a running Ratchet.

The model's server knows a case by a header of its request that nobody in between has a use for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.harness.gateway import Client
from tests.harness.serve import Answer
from tests.harness.upstream import Line, Seen, reply

__all__ = ["CASES", "Case", "Stage", "connected", "exchange", "send", "written"]

CASES: Final = Path(__file__).parents[1] / "cases"
_NAME: Final = "x-case"
_CRLF: Final = b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One file: see the README beside them."""

    group: str
    name: str
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    settings: Mapping[str, Any]
    right: Mapping[str, Any]

    @property
    def id(self) -> str:
        """`group/name`, what the test is called."""
        return f"{self.group}/{self.name}"

    @property
    def answer_body(self) -> bytes:
        """What the client gets, framing aside."""
        return b"".join(_bytes(self.answer["pieces"]))

    @property
    def cut(self) -> bool:
        """Whether the connection ends in the middle of the answer."""
        return {"cut": True} in self.answer["pieces"]

    @classmethod
    def load(cls, path: Path) -> Case:
        """The case in this file."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            group=path.parent.name,
            name=path.stem,
            request=found["request"],
            answer=found["answer"],
            settings=found.get("settings", {}),
            right=found["right"],
        )


def written() -> list[Case]:
    """Every case, in the order of its group and name."""
    return [Case.load(path) for path in sorted(CASES.glob("*/*.json"))]


class Stage:
    """The model's server: it answers as the case says that a request names, and well where it names none."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = {case.id.encode(): case for case in cases}

    async def answer(self, seen: Seen, line: Line) -> None:
        """A script for `Upstream.default`."""
        case = self._cases.get(seen.header(_NAME) or b"")
        if case is None:
            await line.send(reply())
            return
        chunked = case.answer["framing"] == "chunked"
        await line.send(_head(case, chunked))
        for piece in case.answer["pieces"]:
            if isinstance(piece, dict) and "wait_s" in piece:
                await asyncio.sleep(piece["wait_s"])
            elif isinstance(piece, dict) and "cut" in piece:
                line.close()
                return
            else:
                [data] = _bytes([piece])
                await line.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if chunked:
            await line.send(b"0\r\n\r\n")


def _head(case: Case, chunked: bool) -> bytes:
    headers = dict(case.answer["headers"])
    headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(case.answer_body))}
    return b"HTTP/1.1 200 OK\r\n" + _lines(headers) + _CRLF


async def exchange(base_url: str, case: Case) -> Answer:
    """What the client gets for the case's request, as far as it came."""
    body = case.request["body"]
    whole = b"".join(_bytes(body["pieces"])) if "pieces" in body else json.dumps(body).encode()
    return await send(base_url, case.request["path"], whole, {**case.request["headers"], _NAME: case.id})


async def send(base_url: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """A POST on a connection of its own; as much of the answer as came."""
    length = {"Host": "x", "Content-Length": str(len(body)), "Connection": "close"}
    async with connected(base_url) as client:
        await client.send(b"POST %b HTTP/1.1\r\n" % path.encode() + _lines({**length, **headers}) + _CRLF + body)
        head, received = await client.head(), b""
        with contextlib.suppress(ConnectionResetError):
            while piece := await client.reader.read(1 << 16):
                received += piece
    fields = dict(line.decode("latin-1").split(": ", 1) for line in head.split(_CRLF)[1:-2])
    answer = Answer(int(head.split()[1]), fields, received)
    if answer.headers.get("transfer-encoding") == "chunked":
        answer.body = b"".join(_chunks(received))
    return answer


@contextlib.asynccontextmanager
async def connected(base_url: str) -> AsyncIterator[Client]:
    """A raw client, gone at the end of the block."""
    address = urlsplit(base_url)
    client = Client(*await asyncio.open_connection(address.hostname, address.port))
    try:
        yield client
    finally:
        client.writer.transport.abort()


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(_CRLF)
        length = int(size, 16)
        yield body[:length]
        body = body[length + 2 :]


def _lines(headers: Mapping[str, str]) -> bytes:
    return b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in headers.items())


def _bytes(pieces: Sequence[Any]) -> list[bytes]:
    """The bytes of each piece that has any."""
    found = []
    for piece in pieces:
        if isinstance(piece, str):
            found.append(piece.encode())
        elif "repeat" in piece:
            text, times = piece["repeat"]
            found.append(text.encode() * times)
        elif "base64" in piece:
            found.append(b64decode(piece["base64"]))
    return found
