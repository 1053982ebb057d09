"""A private certificate authority, and a server for localhost that it vouches for: what companies have inside."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from tests.harness.require import need

__all__ = ["Authority", "TlsModel", "serving_tls", "serving_tls_in_thread"]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Authority:
    """Files: the authority's certificate, and a server's with its key."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    @classmethod
    def make(cls, folder: Path, days: int = 2) -> Authority:
        """A new one; the server's certificate is good for so many days (0: it has just expired)."""
        need("openssl", shutil.which("openssl") is not None)
        made = cls(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        ca_key, asked, names = folder / "ca.key", folder / "server.csr", folder / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl(
            "req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=Private CA", "-keyout", ca_key, "-out", made.ca_file
        )
        _openssl("req", *_KEY, "-subj", "/CN=localhost", "-keyout", made.key_file, "-out", asked)
        _openssl("x509", "-req", "-in", asked, "-CA", made.ca_file, "-CAkey", ca_key, "-days", str(days),
                 "-extfile", names, "-out", made.cert_file)  # fmt: skip
        return made

    def context(self) -> ssl.SSLContext:
        """For the server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class TlsModel:
    """Answers every request with one chat completion; `asked` are the request lines."""

    BODY = (
        b'{"id": "chatcmpl-tls-1", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": '
        b'{"role": "assistant", "content": "Behind a private CA."}, "finish_reason": "stop"}]}'
    )

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as many requests as come."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lengths = [line for line in head.lower().splitlines() if line.startswith("content-length:")]
                if lengths:
                    await reader.readexactly(int(lengths[0].partition(":")[2]))
                self.asked.append(head.splitlines()[0])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                             % (len(self.BODY), self.BODY))  # fmt: skip
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving_tls(authority: Authority) -> AsyncIterator[TlsModel]:
    """A model behind TLS, on localhost."""
    model = TlsModel()
    server = await asyncio.start_server(model.answer, "127.0.0.1", 0, ssl=authority.context())
    async with server:
        model.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        yield model


@contextlib.contextmanager
def serving_tls_in_thread(authority: Authority) -> Iterator[TlsModel]:
    """The same for blocking tests."""
    started: Future[TlsModel] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with serving_tls(authority) as model:
            started.set_result(model)
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield started.result(60)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
