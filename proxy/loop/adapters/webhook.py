"""A JSON client for the services that train and deploy: which answers mean "later", which mean "never".

One connection per call: these are a few calls a minute, and there is nothing to close.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.session import open_session
from proxy.wire.retry_after import retry_after_s

__all__ = ["ServiceReply", "Webhook", "why_no_answer"]

_LATER = frozenset({408, 425, 429})
_EXCERPT = 300


def why_no_answer(error: Exception) -> str:
    """A failed call in words that are no programmer's: "connection refused", not ClientConnectorError(…)."""
    if isinstance(error, TimeoutError):
        return "no answer within the timeout"
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}); champion.ca_file names private authorities, or "
            "correct the host name in the URL"
        )
    if isinstance(cause, ssl.SSLError):
        return f"the TLS handshake failed ({cause.reason or cause}); check http or https, and the port, in the URL"
    number = getattr(cause, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReply:
    """An HTTP answer below 500 that is not "try again later"."""

    status: int
    content: Any
    """The decoded JSON; text where it is none; None where the body is empty."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """The JSON object, empty for anything else."""
        return self.content if isinstance(self.content, Mapping) else {}

    @property
    def good(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300

    def excerpt(self) -> str:
        """Status and the start of the body, for an error message."""
        text = self.content if isinstance(self.content, str) else orjson.dumps(self.content).decode()
        return f"HTTP {self.status} {text[:_EXCERPT]}"


class Webhook:
    """A service at a base URL."""

    def __init__(
        self,
        key: str,
        url: str | None,
        token_file: str | None,
        *,
        timeout_s: float = 10.0,
        ca_file: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`key` names the setting of `url` in messages; `ca_file` has certificates to trust instead of the system's,
        `tls` trusts others beside them.

        Raises ConfigError without a url, or where the certificates cannot be read.
        """
        if not url:
            raise ConfigError(f"{key} is not set")
        try:
            own = tls or True
            self._tls: bool | ssl.SSLContext = own if ca_file is None else ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ConfigError(f"the certificates in {ca_file} cannot be read: {error}") from error
        self.url = url.rstrip("/")
        self._token_file = token_file
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s))

    async def call(
        self, method: str, path: str = "", *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> ServiceReply:
        """One request. Raises TemporaryError when nobody answers, and on 408, 425, 429 and 5xx."""
        data = None if body is None else orjson.dumps(body, default=str)
        kind = {} if data is None else {"Content-Type": "application/json"}
        return await self.send(method, path, data=data, headers={"Accept": "*/*", **kind, **(headers or {})})

    async def send(self, method: str, path: str, *, data: Any, headers: Mapping[str, str]) -> ServiceReply:
        """One request with a body of any kind; the token is added where `headers` has none."""
        url = f"{self.url}{path}"
        try:
            async with (
                open_session(self._timeout) as client,
                client.request(
                    method, url, data=data, headers={**self._authorization(), **headers}, ssl=self._tls
                ) as response,
            ):
                content = _decoded(await response.read())
                asked_s = retry_after_s(response.headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise TemporaryError(f"{method} {url} was not answered: {why_no_answer(error)}") from error
        answer = ServiceReply(status=response.status, content=content)
        if answer.status >= 500 or answer.status in _LATER:
            wait_s = 10.0 if asked_s is None else asked_s
            raise TemporaryError(f"{method} {url} answered {answer.excerpt()}", retry_after_s=wait_s)
        return answer

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = Path(self._token_file).expanduser().read_text().strip()
        except OSError as error:
            raise PermanentError(f"the token file {self._token_file} cannot be read: {error.strerror}") from error
        return {"Authorization": f"Bearer {token}"}


def _decoded(body: bytes) -> Any:
    if not body:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
