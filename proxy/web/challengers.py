"""A challenger that a person brings: what the API, the console and `ratchet challenge` take, read in one place.

The API key that may come with it goes into the store by itself; the command, the journal and everything that follows
have a name for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.rewrite import Rewrite
from policies.rows import ModelState
from policies.vocabulary import Verb
from proxy.config import forms
from proxy.config.serving import ChampionConfig
from proxy.credentials import NO_CREDENTIAL, Credential
from proxy.routes import origin
from proxy.store.store import Store
from proxy.web.responses import ApiError, JsonResponse

__all__ = ["FIELDS", "Brought", "arguments", "challenger_routes", "read_challenger"]

_TEXTS: Final = ("url", "model", "name", "api_key", "api_key_header")
FIELDS: Final = (*_TEXTS, "client_key", "rewrite")
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.:/@+-]{0,99}", re.ASCII)
_LONGEST: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What a person says of a challenger. None: as the champion has it."""

    url: str | None = None
    model: str | None = None
    name: str | None = None
    api_key: str | None = field(default=None, repr=False)
    api_key_header: str = "authorization"
    client_key: bool = False
    """Whether the clients' own keys are passed on to its server."""
    rewrite: Rewrite | None = None


def read_challenger(document: Mapping[str, Any]) -> Brought:
    """From a JSON object with members of FIELDS; null, an empty text and `champion` as url are as good as nothing.

    Raises ValueError `field: why`.
    """
    given = {name: value for name, value in document.items() if not _is_nothing(value)}
    for member in given:
        if member not in FIELDS:
            raise ValueError(f"{member[:40]}: there is no such field; a challenger has {', '.join(FIELDS)}")
    texts: dict[str, str] = {name: _text(name, given[name]) for name in _TEXTS if name in given}
    url: str | None = None if texts.get("url") == "champion" else texts.get("url")
    if url is not None and (why := forms.base_url(url)) is not None:
        raise ValueError(f"url: {why}")
    if (name := texts.get("name")) is not None and not _NAME.fullmatch(name):
        raise ValueError(f"name: {name!r} is no name of a model; use up to 100 letters, digits and _ . : / @ + -")
    _check_key(texts, url)
    client_key = given.get("client_key", False)
    if not isinstance(client_key, bool) or (client_key and "api_key" in texts):
        raise ValueError("client_key: true or false, and not beside api_key")
    rewrite = Rewrite.of(given["rewrite"]) if "rewrite" in given else None
    if url is None and "model" not in texts and rewrite is None:
        raise ValueError("url: name an endpoint, a model, or a rewrite; else the challenger is the champion itself")
    return Brought(
        url=None if url is None else url.rstrip("/"),
        model=texts.get("model"),
        name=name,
        api_key=texts.get("api_key"),
        api_key_header=texts.get("api_key_header", "authorization"),
        client_key=client_key,
        rewrite=rewrite,
    )


async def arguments(
    brought: Brought, store: Store, champion: ChampionConfig
) -> tuple[dict[str, Any], Credential | None]:
    """The arguments of the command that brings it, and the key that goes with that into the store.

    Another model of the champion's server is asked as the champion is, unless it has a rewrite of its own.
    On a server that is not the champion's neither the champion's key nor the clients' own is any good, and neither is
    sent there: that is what the credential `none` says.
    """
    serving = await store.models.list([ModelState.CHAMPION])
    credential, key = None, None
    rewrite: Mapping[str, Any] | None = None if brought.rewrite is None else brought.rewrite.as_json()
    if brought.url is None and rewrite is None and serving:
        rewrite = serving[-1].rewrite
    if brought.url is not None and brought.api_key is not None:
        key = Credential.of(brought.url, brought.api_key, brought.api_key_header)
    elif brought.url is not None and not brought.client_key:
        own = (serving[-1].url if serving else None) or champion.url
        credential = None if origin(brought.url) == origin(own) else NO_CREDENTIAL
    found = {"url": brought.url, "model": brought.model, "name": brought.name, "credential": credential,
             "rewrite": None if rewrite is None else json.dumps(rewrite, ensure_ascii=False)}  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}, key


def challenger_routes(
    bring: Callable[[Brought, str, str], Awaitable[int]] | None,
    read: Callable[[Request], Awaitable[tuple[dict[str, Any], str, str]]],
) -> list[Route]:
    """POST /api/challengers. `bring(brought, who, why)` gives the command's id; `read` the body, who and why."""

    async def create(request: Request) -> Response:
        if bring is None:
            raise ApiError(503, "the loop does not run here, so no command can be carried out")
        document, who, why = await read(request)
        try:
            brought = read_challenger(document)
        except ValueError as exc:
            raise ApiError(400, str(exc), field=str(exc).partition(":")[0]) from None
        return JsonResponse({"id": await bring(brought, who, why), "state": "pending", "verb": Verb.CHALLENGE}, 202)

    return [Route("/api/challengers", create, methods=["POST"])]


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ValueError(f"{name}: not a text of at most {_LONGEST:,} characters on one line")
    return value.strip()


def _check_key(texts: Mapping[str, str], url: str | None) -> None:
    key, header = texts.get("api_key"), texts.get("api_key_header")
    if key is not None and url is None:
        raise ValueError("api_key: it is for one server; give the url of that as well")
    if key is not None and not key.isascii():
        raise ValueError("api_key: it has a character that no header may have")
    if header is not None and (why := forms.key_header(header)) is not None:
        raise ValueError(f"api_key_header: {why}")
    if header is not None and key is None:
        raise ValueError("api_key_header: there is no api_key to be sent in it")
