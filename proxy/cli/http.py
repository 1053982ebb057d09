"""Talking to a running server from the command line: small, blocking, standard library.

An asynchronous client would cost half a second of import for one request. Answers are JSON; errors carry the
server's own message.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from proxy.cli.common import Exit, fail
from proxy.config.authorities import trusting, trusting_alone, why_not_trusted
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = ["Server", "ServerError", "admin_server", "ask", "public_server", "running_address"]

_TIMEOUT_S = 10.0
_POLL_S = 0.2
_NOT_YET = 503


class ServerError(Exception):
    """The server answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Server:
    """One listener of a running server."""

    url: str
    token: str | None = None
    tls: ssl.SSLContext | None = None
    """Whom it trusts; None: the system's authorities."""

    def get(self, path: str) -> Any:
        """GET; the decoded JSON. Raises ServerError, OSError where nothing answers."""
        return self._send("GET", path, None)

    def get_once_ready(self, path: str, wait_s: float) -> Any:
        """As `get`; a server that has only just started, and does not have its store yet, is asked again for `wait_s`
        seconds."""
        ends = time.monotonic() + wait_s
        while True:
            try:
                return self.get(path)
            except ServerError as exc:
                if exc.status != _NOT_YET or time.monotonic() >= ends:
                    raise
            time.sleep(_POLL_S)

    def post(self, path: str, body: Any) -> Any:
        """POST `body` as JSON; the decoded answer. Raises as `get`."""
        return self._send("POST", path, json.dumps(body).encode())

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"content-type": "application/json", "x-ratchet-csrf": "1"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        try:
            request = urllib.request.Request(f"{self.url}{path}", data=body, headers=headers, method=method)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self.tls) as response:
                status = response.status
                return json.load(response)
        except urllib.error.HTTPError as exc:
            raise ServerError(exc.code, _message(exc)) from exc
        except urllib.error.URLError as exc:
            if isinstance(exc.reason, ssl.SSLCertVerificationError):
                fail(Exit.UNREACHABLE, f"{self.url}: {why_not_trusted(exc.reason)}")
            raise ConnectionError(getattr(exc.reason, "strerror", None) or str(exc.reason)) from exc
        except json.JSONDecodeError as exc:
            raise ServerError(status, "the server there is not Ratchet: its answer is not JSON") from exc
        except (ValueError, HTTPException) as exc:  # no url, or another protocol than HTTP
            raise ConnectionError(str(exc)) from exc


def _message(exc: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(exc)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {exc.code} {exc.reason}"


def running_address(config: Config, name: str) -> str | None:
    """Where the server of this data directory listens (`public` or `admin`), as it wrote down when it started."""
    from proxy.app.paths import DataDir

    try:
        addresses = json.loads(DataDir.of(config).addresses.read_bytes())
        if "pid" in addresses:
            os.kill(addresses["pid"], 0)
        return str(addresses[name]) if addresses.get(name) else None
    except PermissionError:
        return str(addresses[name])  # it lives, as another user
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def admin_server(config: Config, url: str | None, token: str | None) -> Server:
    """The admin port to talk to: as given, else of the running server, else as configured."""
    found = url or running_address(config, "admin") or _configured(config.admin.host, config.admin.port)
    return Server(found.rstrip("/"), token or config.admin.token, _tls(config, found))


def public_server(config: Config, url: str | None, token: str | None) -> Server:
    """The public port to talk to: as given, else of the running server, else as configured. Our own is known by its
    certificate, for the address that it is asked at stands in no certificate."""
    certificate = config.server.tls_cert_file
    found = (
        url
        or running_address(config, "public")
        or _configured(config.server.host, config.server.port, "http" if certificate is None else "https")
    )
    if url is None and found.startswith("https:") and certificate is not None:
        try:
            tls: ssl.SSLContext | None = trusting_alone(certificate)
        except (OSError, ValueError) as exc:
            fail(Exit.CONFIG, f"server.tls_cert_file: {certificate} cannot be used ({exc})")
    else:
        tls = _tls(config, found)
    return Server(found.rstrip("/"), token or config.feedback.token, tls)


def _tls(config: Config, url: str) -> ssl.SSLContext | None:
    try:
        return trusting(config.champion.ca_file) if url.startswith("https:") else None
    except ConfigError as exc:
        fail(Exit.CONFIG, str(exc))


def _configured(host: str, port: int, scheme: str = "http") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{host}:{port}"


def ask(server: Server, path: str) -> Any:
    """GET, or end the command with the reason."""
    try:
        return server.get(path)
    except ServerError as exc:
        fail(Exit.FAILED, f"{server.url}{path}: {exc}")
    except OSError as exc:
        fail(
            Exit.UNREACHABLE,
            f"no server answers at {server.url} ({exc}); start one with `ratchet serve`, or give --admin-url",
        )
