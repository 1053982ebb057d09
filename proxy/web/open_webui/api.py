"""What Open WebUI is asked: which votes there are, and what one of them says.

A vote comes with a snapshot of the whole chat, which is dropped at once. Whatever goes wrong is said in one sentence
that names the remedy.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from proxy.config.authorities import why_not_trusted
from proxy.printable import printable
from proxy.version import __version__

__all__ = ["OpenWebUI", "OpenWebUIError"]

_MOST_BYTES: Final = 64 << 20
"""Of one answer: the list of all votes, or a vote with its whole chat."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0, connect=10.0)
_ID: Final = re.compile(r"[\w:-][\w.:-]{0,199}", re.ASCII)
"""An id that can be a part of an address, and be kept."""
_LATEST_S: Final = 1 << 36
"""In the year 4147."""
_BY_STATUS: Final = {
    401: "it refuses the key: give feedback.open_webui.key the API key of an administrator, and run Open WebUI with "
         "ENABLE_API_KEYS=true",
    403: "the key may not do this: it has to be an administrator's, and /api/v1/evaluations has to be among its "
         "allowed endpoints where ENABLE_API_KEYS_ENDPOINT_RESTRICTIONS is on",
    404: "it knows no votes at this address: feedback.open_webui.url has to be the address of Open WebUI itself",
}  # fmt: skip


class OpenWebUIError(Exception):
    """It was asked in vain; the text says why and what to do: plain English, no full stop."""


class OpenWebUI:
    """One Open WebUI, asked over HTTP. Open it as a context."""

    def __init__(self, url: str, key: str, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: whom to trust beside the system's authorities."""
        self._tls = tls
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": f"ratchet/{__version__}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> OpenWebUI:
        """Ready to ask."""
        connector = aiohttp.TCPConnector(ssl=self._tls or True)
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()

    async def votes(self) -> dict[str, int]:
        """When each vote was changed last, in Unix seconds, by its id. Raises OpenWebUIError."""
        listed = await self._get("/api/v1/evaluations/feedbacks/all/ids")
        if not isinstance(listed, list):
            raise self._error("it answers with something that is no list of votes: is its version older than 0.6?")
        found = {}
        for one in listed:
            if not isinstance(one, dict) or not isinstance(one.get("id"), str):
                raise self._error("its list of votes has something in it that is no vote: is it Open WebUI?")
            if _ID.fullmatch(one["id"]):
                found[one["id"]] = _seconds(one.get("updated_at") or one.get("created_at"))
        if found and not any(found.values()):
            raise self._error("its list of votes has no times that can be read: this version is not known")
        return found

    async def vote(self, vote_id: str) -> dict[str, Any] | None:
        """What a vote says, without its snapshot; None where Open WebUI itself says that it is gone. Raises
        OpenWebUIError."""
        found = await self._get(f"/api/v1/evaluations/feedback/{quote(vote_id, safe='')}", missing=True)
        if found is not None and (not isinstance(found, dict) or "id" not in found):
            raise self._error("it answers with something that is no vote: is it Open WebUI?")
        return found

    async def _get(self, path: str, *, missing: bool = False) -> Any:
        """The JSON at `path`; None where that is `missing`, and allowed to be."""
        assert self._session is not None
        try:
            async with self._session.get(self._url + path, allow_redirects=False) as answer:
                gone = missing and answer.status == 404
                if answer.status != 200 and not gone:
                    raise self._error(_BY_STATUS.get(answer.status, f"it answers with status {answer.status}"))
                body = await self._body(answer)
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            what = why_not_trusted(exc) or printable(str(exc)) or type(exc).__name__
            raise self._error(f"it cannot be reached: {what}") from exc
        try:
            found = await asyncio.to_thread(_read, body)
        except ValueError as exc:
            message = (
                "it answers with something that is not JSON: is feedback.open_webui.url the address of Open WebUI?"
            )
            raise self._error(message) from exc
        return None if gone and isinstance(found, dict) else found

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise self._error(f"one of its answers is longer than {_MOST_BYTES >> 20} MiB")
        return bytes(body)

    def _error(self, what: str) -> OpenWebUIError:
        return OpenWebUIError(f"Open WebUI at {self._url}: {what}")


def _read(body: bytes) -> Any:
    found = orjson.loads(body)
    if isinstance(found, dict):
        found.pop("snapshot", None)
    return found


def _seconds(value: Any) -> int:
    """Of a time in seconds; other tables of Open WebUI count in nanoseconds."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        return 0
    while value >= _LATEST_S:
        value /= 1000
    return int(value)
