"""The admin app: metrics, status, records, control, and whatever pages the console adds.

Everything it shows or does is handed in by the composition root as `AdminServices`; this module only speaks HTTP.
Control actions are not done here: they are written down as commands, and the loop does them in its next tick.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from policies.vocabulary import Verb
from proxy.clock import Clock, SystemClock
from proxy.config.model import Config
from proxy.credentials import Credential
from proxy.ids import KeyRing
from proxy.limits import Guesses
from proxy.status import Status, status_json
from proxy.store.store import Store
from proxy.web.auth import SESSION_COOKIE, SESSION_S, Sessions, TokenAuth, peer, too_many_guesses
from proxy.web.challengers import Brought, arguments, challenger_routes
from proxy.web.checks.api import ChecksApi
from proxy.web.datasets import DatasetsApi
from proxy.web.limits import MAX_ADMIN_BODY_BYTES, BodyLimit, Hardened
from proxy.web.numbers import instant_of, whole_of
from proxy.web.records import RecordsApi
from proxy.web.responses import EXCEPTION_HANDLERS, ApiError, JsonResponse, reachable
from proxy.web.votes import Vote

__all__ = ["VERBS", "AdminServices", "create_admin_app"]

VERBS: Final = tuple(verb.value for verb in Verb)
"""What a person can ask of the loop."""
_MAX_WHY: Final = 1_000
_MAX_ARGS: Final = 10
_MOST_ENTRIES: Final = 1_000
_OPEN: Final = ("/health", "/api/session")


async def unknown() -> str | None:
    """Nobody has told where clients go."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServices:
    """What the admin port shows and does. Where something is None, its URL answers 503 and says so."""

    config: Config
    clock: Clock
    keys: KeyRing
    metrics: Callable[[str], tuple[bytes, str]]
    """Accept header → the exposition and its content type."""
    status: Callable[[], Awaitable[Status]]
    """The snapshot that the loop decides on, and what it decided."""
    health: Callable[[], Mapping[str, Any]]
    """Facts about the controller; `status` is "ok" while it can do its work."""
    store: Callable[[], Store | None]
    """The store, or None while it cannot be reached."""
    submit: Callable[[str, Mapping[str, Any], str, str, Credential | None], Awaitable[int]] | None = None
    """(verb, args, who, why, the API key that comes with it) → id of the command, written down and the loop woken."""
    explain: Callable[[float | None], Awaitable[Mapping[str, Any]]] | None = None
    """Unix seconds, or None for now → the decision of that time with its reasons."""
    history: Callable[[int, float | None], Awaitable[Sequence[Mapping[str, Any]]]] | None = None
    """(limit, before Unix seconds or None) → decisions with their outcomes, newest first."""
    guesses: Guesses = field(default_factory=lambda: Guesses(SystemClock()))
    """Wrong tokens by address: one count for the API, the console's log-in and sessions."""
    console: Sequence[BaseRoute] = ()
    """Pages, put after the API."""
    open_paths: Sequence[str] = ()
    """Paths of the console that need no token: its log-in page and static files."""
    login_path: str | None = None
    """Where a browser without a session is sent."""
    listening: Callable[[], Awaitable[str | None]] = unknown
    """Where the public port listens, as the running server has told; None where it has not."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where settings come from (a file, a variable, the command line), by path; what is not in it is a default."""
    vote: Callable[[Sequence[Vote]], Awaitable[list[str]]] | None = None
    """Write votes down as everybody's are, and return their ids. Raises ApiError where they cannot be kept."""

    async def bring(self, brought: Brought, who: str, why: str) -> int:
        """Write down that a challenger is brought; returns the command's id. Its API key is kept apart.

        Raises TemporaryError while the store is away.
        """
        store = reachable(self.store())
        assert self.submit is not None  # who calls has looked
        args, key = await arguments(brought, store, self.config.champion)
        return await self.submit(Verb.CHALLENGE, args, who, why, key)


def create_admin_app(services: AdminServices) -> Starlette:
    """The app of the admin port. Raises ValueError where the token is named but was not read."""
    admin = services.config.admin
    if admin.token_file and not admin.token:
        raise ValueError("admin.token_file is set but was not read: use load_config")
    sessions = Sessions(admin.token, services.clock) if admin.token else None
    open_paths = [*_OPEN, *services.open_paths] + ([] if admin.metrics_need_token else ["/metrics"])
    auth = Middleware(
        TokenAuth,
        sessions=sessions,
        guesses=services.guesses,
        open_paths=open_paths,
        login_path=services.login_path,
    )
    bodies = Middleware(BodyLimit, limit=MAX_ADMIN_BODY_BYTES)
    api = _Api(services, sessions)
    return Starlette(
        routes=[
            Route("/metrics", api.metrics),
            Route("/status", api.status),
            Route("/health", api.health),
            Route("/api/session", api.session, methods=["POST", "DELETE"]),
            Route("/api/commands", api.command, methods=["POST"]),
            Route("/api/commands/{id:row}", api.command_state),
            *challenger_routes(None if services.submit is None else services.bring, api.order),
            Route("/api/explain", api.explain),
            Route("/api/history", api.history),
            *RecordsApi(services.store, services.keys, services.clock).routes(),
            *ChecksApi(services.store).routes(),
            *DatasetsApi(services.store, services.config.training_dir).routes(),
            *services.console,
        ],
        middleware=[Middleware(Hardened), auth, bodies],
        exception_handlers=EXCEPTION_HANDLERS,
    )


class _Api:
    """The endpoints, one method each."""

    def __init__(self, services: AdminServices, sessions: Sessions | None) -> None:
        self._services = services
        self._sessions = sessions

    async def metrics(self, request: Request) -> Response:
        body, content_type = self._services.metrics(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def status(self, request: Request) -> Response:
        return JsonResponse(status_json(await self._services.status()))

    async def health(self, request: Request) -> Response:
        facts = self._services.health()
        ours = set(facts.get("troubles", ("unknown",))) - {"champion"}  # whose restart mends no other server
        return JsonResponse(facts, 200 if facts.get("status") == "ok" or not ours else 503)

    async def session(self, request: Request) -> Response:
        """Exchange the token for a cookie, or give the cookie back."""
        response = JsonResponse({"ok": True})
        if request.method == "POST" and self._sessions is not None:
            given, address = str((await _json_object(request)).get("token", "")), peer(request.scope)
            if not self._sessions.is_token(given):
                if wait_s := self._services.guesses.wrong(address):
                    return too_many_guesses(wait_s)
                raise ApiError(401, "the admin token is wrong", field="token")
            if self._sessions.weak and (wait_s := self._services.guesses.wait_s(address)):
                return too_many_guesses(wait_s)
            value, age = self._sessions.issue(), SESSION_S
        else:
            value, age = "", 0
        secure = request.url.scheme == "https"
        response.set_cookie(SESSION_COOKIE, value, max_age=age, httponly=True, samesite="strict", secure=secure)
        return response

    async def command(self, request: Request) -> Response:
        """Write a control action down for the loop: {"verb", "why", "who", "args"}."""
        if self._services.submit is None:
            raise ApiError(503, "the loop does not run here, so no command can be carried out")
        body, who, why = await self.order(request)
        verb, args = body.get("verb"), body.get("args", {})
        if verb not in VERBS:
            raise ApiError(400, f"verb: not one of {', '.join(VERBS)}", field="verb")
        if verb == Verb.CHALLENGE:
            raise ApiError(400, "verb: bring a challenger with POST /api/challengers", field="verb")
        _check_args(args)
        command_id = await self._services.submit(verb, args, who, why, None)
        return JsonResponse({"id": command_id, "state": "pending"}, 202)

    async def order(self, request: Request) -> tuple[dict[str, Any], str, str]:
        """The JSON object in the body, without who asks for something and why, and these two."""
        body = await _json_object(request)
        why, who = body.pop("why", None), body.pop("who", "admin")
        if not isinstance(why, str) or not 0 < len(why.strip()) <= _MAX_WHY or "\0" in why:
            raise ApiError(400, "why: give the reason in a sentence; it is stored with the decision", field="why")
        if not isinstance(who, str) or not 0 < len(who.strip()) <= _MAX_WHY or "\0" in who:
            raise ApiError(400, "who: not a string, or empty", field="who")
        return body, who.strip(), why.strip()

    async def command_state(self, request: Request) -> Response:
        store = reachable(self._services.store())
        found = await store.commands.get(request.path_params["id"])
        if found is None:
            raise ApiError(404, f"there is no command {request.path_params['id']}")
        return JsonResponse(found)

    async def explain(self, request: Request) -> Response:
        if self._services.explain is None:
            raise ApiError(503, "the loop does not run here")
        try:
            return JsonResponse(await self._services.explain(instant_of(request, "at")))
        except LookupError as exc:
            raise ApiError(404, str(exc)) from exc

    async def history(self, request: Request) -> Response:
        if self._services.history is None:
            raise ApiError(503, "the loop does not run here")
        limit = whole_of(request, "limit", 50, most=_MOST_ENTRIES)
        entries = await self._services.history(limit, instant_of(request, "before"))
        return JsonResponse({"entries": list(entries)})


def _check_args(args: object) -> None:
    """What a command can be given: a share of the users, switches, short texts. Raises ApiError 400."""
    if not isinstance(args, dict) or len(args) > _MAX_ARGS:
        raise ApiError(400, "args: not an object with a few members", field="args")
    for name, value in args.items():
        if name == "share":
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        else:
            fits = isinstance(value, bool) or (isinstance(value, str) and len(value) <= _MAX_WHY)
        if not fits:
            wanted = "a share of the users, 0 to 1" if name == "share" else "true, false or a string"
            raise ApiError(400, f"args.{name[:40]}: not {wanted}", field="args")


async def _json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body. Only as application/json: no HTML form can send that."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "send JSON with `content-type: application/json`")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as exc:
        raise ApiError(400, f"the body is not JSON ({exc})", field="body") from exc
    if not isinstance(body, dict):
        raise ApiError(400, "the body is not an object", field="body")
    return body
