"""Who may use the admin port. Pure ASGI, in front of every route.

With a token: `Authorization: Bearer <token>`, or a session cookie that the token was exchanged for. Without one the
port listens on a loopback address only, and then the `Host` must be a loopback name, too: otherwise any web page
could reach it through a name of its own that resolves to 127.0.0.1 (DNS rebinding).

Whatever changes something (any method but GET, HEAD, OPTIONS) needs the bearer token or the header `x-ratchet-csrf`:
another site's page can send a form or a cookie, but not a header of ours without asking first, and nobody answers.
"""

from __future__ import annotations

import math
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
from proxy.config.checks import SHORTEST_TOKEN, is_loopback
from proxy.limits import Guesses
from proxy.web.responses import JsonResponse, error_response

__all__ = ["CSRF_HEADER", "SESSION_COOKIE", "SESSION_S", "Sessions", "TokenAuth", "peer", "too_many_guesses"]

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

    @property
    def weak(self) -> bool:
        """Whether the token is so short that trying all of them is no dream: then even a right one has to wait."""
        return len(self._token) < SHORTEST_TOKEN

    def forged(self, session: str) -> bool:
        """Whether `session` was made up: not merely one that has ended."""
        ends, _, mac = session.partition(".")
        return bool(session) and not compare_digest(mac.encode(), self._mac(ends).encode())

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
        guesses: Guesses,
        open_paths: Iterable[str] = (),
        login_path: str | None = None,
    ) -> None:
        """`sessions` None: no token is configured. `open_paths` need none, nor does what is below one ending in /."""
        self._app = app
        self._sessions = sessions
        self._guesses = guesses
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
                return error_response(
                    403, "without admin.token this port answers only requests to localhost; set admin.token"
                )
        elif not self._is_open(scope["path"]):
            bearer, cookie = _bearer(headers), _cookie(headers)
            by_bearer = self._sessions.is_token(bearer)
            if by_bearer and self._sessions.weak and (wait_s := self._guesses.wait_s(peer(scope))):
                return too_many_guesses(wait_s)
            if not by_bearer and not self._sessions.valid(cookie):
                return self._unauthorized(scope, headers, guessed=bool(bearer) or self._sessions.forged(cookie))
        if scope["method"] in _SAFE or by_bearer or CSRF_HEADER in headers:
            return None
        return error_response(
            403,
            f"send the admin token, or the header {CSRF_HEADER}: 1 (it keeps other sites from sending this request)",
        )

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)

    def _unauthorized(self, scope: Scope, headers: Headers, *, guessed: bool) -> Response:
        wait_s = self._guesses.wrong(peer(scope)) if guessed else 0.0
        if self._login_path and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            asked = quote(scope["path"]) + (f"?{query}" if (query := scope["query_string"].decode("latin-1")) else "")
            return RedirectResponse(f"{self._login_path}?next={quote(asked)}", 303)
        if wait_s:
            return too_many_guesses(wait_s)
        message = "the admin token is missing or wrong; send `Authorization: Bearer <admin.token>`"
        return error_response(401, message, headers={"www-authenticate": 'Bearer realm="ratchet"'})


def peer(scope: Scope) -> str:
    """The address at the other end of the connection."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def too_many_guesses(wait_s: float) -> JsonResponse:
    """The answer to one wrong token too many."""
    message = "too many wrong tokens from this address; wait before the next one"
    return error_response(429, message, headers={"retry-after": str(math.ceil(wait_s))})


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _hostname(host: str) -> str:
    """The name in a Host header, without the port: `[::1]:8081` → `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cookie(headers: Headers) -> str:
    return cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE, "")
