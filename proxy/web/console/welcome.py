"""The first look: nothing has come yet, so where do clients go, and what is a request that works?

The address is the one that clients of whoever looks can use: `server.public_url`, else the public port under the host
by which this page was asked for. The request is in the words of the champion's API, as far as its address tells which
that is.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request

from proxy.config.checks import is_loopback
from proxy.config.model import Config
from proxy.config.terms import provider_of
from proxy.store.store import Store
from proxy.store.tables.values import RecordFilter, RecordRow
from proxy.web.console.page import Console

__all__ = ["FIRST_RECORDS", "Example", "base_url", "example", "first_records", "welcome"]

FIRST_RECORDS: Final = 5
"""An install with more records than these is not new any more."""
_MODEL: Final = "YOUR-MODEL"
_EVERYWHERE: Final = ("0.0.0.0", "::")
_VERSION: Final = re.compile(r"v\d+[a-z]*\d*")
_ENDS_CHAT: Final = "/chat/completions"
_HELLO: Final = "Say hello."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Api:
    """How a provider is asked."""

    path: str
    """Below the champion's URL; `{model}` is the model's name."""
    body: dict[str, Any]
    key: str
    """Header of the API key, as curl takes it."""
    more: tuple[str, ...] = ()
    """Further headers that it wants."""


_CHAT: Final = _Api(
    path="/v1/chat/completions",
    body={"messages": [{"role": "user", "content": _HELLO}]},
    key="authorization: Bearer $API_KEY",
)
_APIS: Final = {
    "api.anthropic.com": _Api(
        path="/v1/messages",
        body={"max_tokens": 100, "messages": [{"role": "user", "content": _HELLO}]},
        key="x-api-key: $API_KEY",
        more=("anthropic-version: 2023-06-01",),
    ),
    "generativelanguage.googleapis.com": _Api(
        path="/v1beta/models/{model}:generateContent",
        body={"contents": [{"role": "user", "parts": [{"text": _HELLO}]}]},
        key="x-goog-api-key: $API_KEY",
    ),
    "api.cohere.*": _Api(
        path="/v2/chat",
        body={"messages": [{"role": "user", "content": _HELLO}]},
        key="authorization: Bearer $API_KEY",
    ),
    "*.openai.azure.com": _Api(path="/openai/v1/chat/completions", body=_CHAT.body, key="api-key: $API_KEY"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request to copy."""

    curl: str
    names_model: bool
    """Whether the reader has to write the name of a model into it."""
    needs_key: bool
    """Whether the reader's own API key has to be in the environment."""
    client_url: str
    """What the `base_url` of a client library is set to."""


def base_url(config: Config, listening: str | None, host: str) -> tuple[str, bool]:
    """Where clients reach the public port, and whether only programs on Ratchet's own machine do.

    `listening` is the address that the running server has told of; `host` the name by which the reader came here.
    """
    if config.server.public_url:
        return config.server.public_url.rstrip("/"), False
    parts = urlsplit(listening or "")
    scheme = "https" if config.server.tls_cert_file else "http"
    port = parts.port or config.server.port
    name = config.server.host
    if name in _EVERYWHERE:
        name = _hostname(host)
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme or scheme}://{shown}:{port}", is_loopback(config.server.host)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"


def example(config: Config, base: str) -> Example:
    """A request that the champion understands, sent to `base`."""
    champion = config.champion
    api, path = _api_of(champion.url)
    model = champion.model or _MODEL
    body = api.body if "{model}" in path else {"model": model, **api.body}
    needs_key = champion.api_key is None and provider_of(champion.url) is not None
    lines = [f"curl -sS {shlex.quote(base + path.replace('{model}', model))}"]
    lines += [f"-H {shlex.quote(header)}" for header in ("content-type: application/json", *api.more)]
    lines += [f'-H "{api.key}"'] if needs_key else []  # in double quotes: the shell puts the key in
    lines.append(f"-d {shlex.quote(json.dumps(body))}")
    return Example(
        curl=" \\\n  ".join(lines),
        names_model=champion.model is None,
        needs_key=needs_key,
        client_url=base + path.partition(_ENDS_CHAT)[0] if path.endswith(_ENDS_CHAT) else base,
    )


def _api_of(url: str) -> tuple[_Api, str]:
    """How the server at `url` is asked, and the path that is sent to us: without what `url` has of it already."""
    parts = urlsplit(url)
    prefix = [part for part in parts.path.split("/") if part]
    api = next((api for name, api in _APIS.items() if fnmatchcase(parts.hostname or "", name)), _CHAT)
    if prefix[-1:] == ["openai"] and not api.path.endswith(_ENDS_CHAT):
        api = _CHAT  # OpenAI's form, which some offer beside their own
    if api is _CHAT and any(map(_VERSION.fullmatch, prefix)):
        return api, _ENDS_CHAT
    own = api.path.strip("/").split("/")
    known = next((n for n in range(len(own), 0, -1) if prefix[-n:] == own[:n]), 0)
    return api, "/" + "/".join(own[known:])


async def first_records(store: Store) -> tuple[RecordRow, ...] | None:
    """All records of a new install, oldest first, none where nothing has come; None where it is not new."""
    page = await store.records.list(RecordFilter(), limit=FIRST_RECORDS + 1, texts=False)
    return None if len(page.rows) > FIRST_RECORDS or page.cursor else tuple(reversed(page.rows))


async def welcome(console: Console, request: Request) -> dict[str, Any] | None:
    """What the first look shows; None where requests have come long since. Raises TemporaryError."""
    records = await first_records(console.store)
    if records is None or (not records and (await console.store.traffic.totals()).requests):
        return None  # none is left of what has come: deleted, or past retention
    config = console.services.config
    base, near = base_url(config, await console.services.listening(), request.headers.get("host", ""))
    return {"records": records, "base": base, "near": near, "example": example(config, base)}
