"""Who may use the admin port. Pure ASGI, in front of every route.

With a token: `Authorization: Bearer <token>`, or a session cookie that the token was exchanged for. Without one the
port listens on a loopback address only, and then the `Host` must be a loopback name, too: otherwise any web page
could reach it through a name of its own that resolves to 127.0.0.1 (DNS rebinding).

Whatever changes something (any method but GET, HEAD, OPTIONS) needs the bearer token or the header `x-ratchet-csrf`:
another site's page can send a form or a cookie, but not a header of ours without asking first, and nobody answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from hmac import compare_digest
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.clock import Clock
from proxy.config.checks import is_loopback
from proxy.web.responses import error_response

__all__ = ["CSRF_HEADER", "SESSION_COOKIE", "SESSION_S", "Sessions", "TokenAuth"]

CSRF_HEADER: Final = "x-ratchet-csrf"
SESSION_COOKIE: Final = "ratchet_session"
SESSION_S: Final = 12 * 3600
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Sessions:
    """Session values without a table of sessions: when it ends, and a MAC over that keyed with the token.

    A new token ends every session; nothing else needs to be remembered.
    """

    def __init__(self, token: str, clock: Clock) -> None:
        self._token = token.encode()
        self._key = blake2b(self._token, digest_size=32, person=b"ratchet session").digest()
        self._clock = clock

    def is_token(self, text: str) -> bool:
        """Whether `text` is the token; takes as long for any text of its length."""
        return compare_digest(text.encode(), self._token)

    def issue(self) -> str:
        """A session that ends in SESSION_S seconds."""
        ends = str(int(self._clock.now()) + SESSION_S)
        return f"{ends}.{self._mac(ends)}"

    def valid(self, session: str) -> bool:
        """Whether `session` was issued under this token and has not ended."""
        ends, _, mac = session.partition(".")
        genuine = compare_digest(mac.encode(), self._mac(ends).encode())
        return genuine and ends.isdecimal() and self._clock.now() < int(ends)

    def _mac(self, ends: str) -> str:
        return blake2b(ends.encode(), digest_size=16, key=self._key).hexdigest()


class TokenAuth:
    """ASGI middleware that lets a request through or answers 401, 403 or, to a browser, the way to the log-in page."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions | None,
        open_paths: Iterable[str] = (),
        login_path: str | None = None,
    ) -> None:
        """`sessions` None: no token is configured. `open_paths` need none, nor does what is below one ending in /."""
        self._app = app
        self._sessions = sessions
        self._open = frozenset(open_paths)
        self._open_below = tuple(path for path in self._open if path.endswith("/"))
        self._login_path = login_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass; WebSockets there are none."""
        if scope["type"] == "http":
            refusal = self._refusal(scope, Headers(scope=scope))
            await (refusal or self._app)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        by_bearer = False
        if self._sessions is None:
            if not is_loopback(_hostname(headers.get("host", ""))):
                return error_response(403, "without admin.token this port answers only to localhost; set a token")
        elif not self._is_open(scope["path"]):
            by_bearer = self._has_bearer(headers)
            if not by_bearer and not self._sessions.valid(_cookie(headers)):
                return self._unauthorized(scope, headers)
        if scope["method"] in _SAFE or by_bearer or CSRF_HEADER in headers:
            return None
        return error_response(403, f"send the admin token, or the header {CSRF_HEADER}: 1 (so that no other site can)")

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)

    def _has_bearer(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._sessions is not None and self._sessions.is_token(token.strip())

    def _unauthorized(self, scope: Scope, headers: Headers) -> Response:
        if self._login_path and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse(f"{self._login_path}?next={quote(scope['path'])}", 303)
        message = "the admin token is missing or wrong; send `Authorization: Bearer <admin.token>`"
        return error_response(401, message, headers={"www-authenticate": 'Bearer realm="ratchet"'})


def _hostname(host: str) -> str:
    """The name in a Host header, without the port: `[::1]:8081` → `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cookie(headers: Headers) -> str:
    return cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE, "")
