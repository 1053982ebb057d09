"""Commands from the console, and logging in.

A form goes the way of `POST /api/commands`: written down, done by the loop in its next tick, kept with its reason.
Against other sites' pages: the session cookie is SameSite=Strict, `TokenAuth` wants a header that no form can send,
and what a browser itself calls cross-site is refused whatever it carries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from policies.vocabulary import COMMANDS, Verb
from proxy.errors import TemporaryError
from proxy.web.admin import VERBS
from proxy.web.auth import SESSION_COOKIE, SESSION_S, Sessions, peer
from proxy.web.challengers import Brought, read_challenger
from proxy.web.console.page import Console
from proxy.web.numbers import read_number
from proxy.web.responses import ApiError

__all__ = ["action_routes", "form_of", "refuse_other_sites"]

_MAX_TEXT: Final = 1_000
_MAX_FIELDS: Final = 100


def action_routes(console: Console, sessions: Sessions | None, login_path: str) -> list[Route]:
    """POST /actions, GET /actions/{id}, and the log-in page (which without a token only leads back)."""
    actions, login = _Actions(console), _Login(console, sessions)
    return [
        Route("/actions", actions.submit, methods=["POST"]),
        Route("/actions/{id:row}", actions.state),
        Route(login_path, console.page(login.page)),
        Route(login_path, login.enter, methods=["POST"]),
        Route("/logout", login.leave, methods=["POST"]),
    ]


class _Actions:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def submit(self, request: Request) -> Response:
        refuse_other_sites(request)
        form = await form_of(request)
        submit = self._console.services.submit
        if submit is None:
            return await self._said("The loop does not run here, so no command can be carried out.", 503)
        verb, why, who = (form.get(name, "").replace("\0", "").strip() for name in ("verb", "why", "who"))
        if verb not in VERBS:
            return await self._said(f"There is no action {verb!r}.", 422)
        if not why or not who:
            return await self._said("Give your name and a reason: both are kept with the decision.", 422)
        if max(len(why), len(who)) > _MAX_TEXT:
            return await self._said(f"At most {_MAX_TEXT} characters.", 422)
        try:
            if verb == Verb.CHALLENGE:
                command_id = await self._console.services.bring(_challenger(form), who, why)
            else:
                command_id = await submit(verb, _args(verb, form), who, why, None)
        except ValueError as exc:
            return await self._said(str(exc), 422)
        except TemporaryError as exc:
            return await self._said(str(exc), 503)
        return await self._show(command_id)

    async def state(self, request: Request) -> Response:
        """What has become of a command: the page asks until it is done or refused."""
        return await self._show(request.path_params["id"])

    async def _show(self, command_id: int) -> Response:
        command = await self._console.store.commands.get(command_id)
        if command is None:
            return await self._said("This command is no longer known.", 404)
        name = COMMANDS[Verb(command.verb)].label
        return await self._console.partial("command.html", {"command": command, "name": name})

    async def _said(self, message: str, status_code: int) -> Response:
        return await self._console.partial("refusal.html", {"message": message}, status_code=status_code)


def _args(verb: str, form: Mapping[str, str]) -> dict[str, float | str]:
    """Raises ValueError, a sentence for the person."""
    match verb:
        case Verb.DEPLOY:
            return {"run": form.get("run", "")[:_MAX_TEXT]}
        case Verb.SHARE:
            try:
                return {"share": read_number(form.get("share", ""), 0.0, 100.0) / 100}
            except ValueError:
                raise ValueError("Give the share in per cent, 0 to 100.") from None
    return {}


def _challenger(form: Mapping[str, str]) -> Brought:
    """Raises ValueError, a sentence for the person."""
    given: dict[str, Any] = {name: form.get(name, "").strip() for name in ("url", "model", "api_key")}
    given |= {"name": form.get("challenger", "").strip(), "client_key": bool(form.get("client_key"))}
    if rewrite := form.get("rewrite", "").strip():
        try:
            given["rewrite"] = json.loads(rewrite)
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"rewrite: this is not JSON ({exc})") from None
    return read_challenger(given)


class _Login:
    def __init__(self, console: Console, sessions: Sessions | None) -> None:
        self._console = console
        self._sessions = sessions

    async def page(self, request: Request) -> Response:
        if self._sessions is None:
            return RedirectResponse("/", 303)
        return await self._console.partial("login.html", {"next": _own_path(request.query_params.get("next"))})

    async def enter(self, request: Request) -> Response:
        """Exchange the token for a cookie that does not contain it."""
        refuse_other_sites(request)
        form = await form_of(request)
        right = self._sessions is not None and self._sessions.is_token(form.get("token", ""))
        guesses, address = self._console.services.guesses, peer(request.scope)
        wait_s = guesses.wrong(address) if not right else 0.0
        if wait_s or (self._sessions is not None and self._sessions.weak and (wait_s := guesses.wait_s(address))):
            said = f"Too many wrong tokens from this address: wait {math.ceil(wait_s)} s."
            return await self._console.partial("refusal.html", {"message": said}, status_code=429)
        if self._sessions is None or not right:
            return await self._console.partial("refusal.html", {"message": "The token is wrong."}, status_code=401)
        response = Response(status_code=204, headers={"hx-redirect": _own_path(form.get("next"))})
        secure = request.url.scheme == "https"
        response.set_cookie(
            SESSION_COOKIE, self._sessions.issue(), max_age=SESSION_S, httponly=True, samesite="strict", secure=secure
        )
        return response

    async def leave(self, request: Request) -> Response:
        response = Response(status_code=204, headers={"hx-redirect": "/login"})
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
        return response


def refuse_other_sites(request: Request) -> None:
    """What a browser itself calls cross-site is refused. Raises ApiError 403."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "this came from another site's page")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a URL-encoded form, the last of each name. Raises ApiError 400."""
    body = await request.body()
    try:
        found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as exc:
        raise ApiError(400, f"this form has more than {_MAX_FIELDS} fields") from exc
    return {name: values[-1] for name, values in found.items()}


def _own_path(text: str | None) -> str:
    """Where to go after logging in: a path of ours with its filter, never another host."""
    parts = urlsplit(text or "/")
    own = not parts.scheme and not parts.netloc and parts.path.startswith("/") and "\\" not in parts.path
    if not own or parts.path.startswith("//"):
        return "/"
    path, query = (quote(part, safe="/%:@!$&'()*+,;=?") for part in (parts.path, parts.query))
    return f"{path}?{query}" if query else path
