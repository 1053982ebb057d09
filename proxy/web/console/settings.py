"""The settings in force: each with its value, its default, and where it comes from. Secrets are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.config import Config, public_document
from proxy.config.literal import show
from proxy.config.parse import keys
from proxy.web.console.page import Console

__all__ = ["Setting", "setting_routes", "settings"]

_UNSET: Final = "not set"
_TELLING: Final = ("notify.urls",)
"""Receivers have their keys in the path."""
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, as text."""

    table: str
    name: str
    value: str
    default: str
    origin: str | None
    """A file, a variable, the command line; None: it has its default."""
    secret: bool

    @property
    def path(self) -> str:
        """As messages and the reference call it."""
        return f"{self.table}.{self.name}" if self.table else self.name


def setting_routes(console: Console) -> list[Route]:
    """GET /settings."""

    async def page(request: Request) -> Response:
        services = console.services
        found = settings(services.config, services.origins)
        tables: dict[str, list[Setting]] = {}
        for one in found:
            tables.setdefault(one.table, []).append(one)
        chosen = [one for one in found if one.origin is not None]
        return await console.render(request, "settings.html", {"chosen": chosen, "tables": tables})

    return [Route("/settings", console.page(page))]


def settings(config: Config, origins: Mapping[str, str]) -> list[Setting]:
    """All of them, in the order of the reference. Where their origin is not known, a value other than the default was
    given at the start."""
    document = public_document(config)
    found = []
    for key in keys(Config):
        value = reduce(lambda table, part: table[part], key.path.split("."), document)
        table, _, name = key.path.rpartition(".")
        text, default = _text(value), _text(key.default)
        origin = origins.get(key.path)
        if origin is None and text != default:
            origin = "set when it was started"
        found.append(
            Setting(
                table=table,
                name=name,
                value=text,
                default=default,
                origin=origin,
                secret=key.secret or key.path in _TELLING,
            )
        )
    return found


def _text(value: Any) -> str:
    if value is None or value == "":
        return _UNSET
    return show(value, _LONGEST)
