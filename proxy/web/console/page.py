"""How every page is made: one template, whose `live` block alone is sent when htmx asks for news.

A page that cannot be shown (store away, nothing found) is a page, too, with the status and a sentence that says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from policies.glossary import TERMS
from policies.lifecycle import Phase
from policies.vocabulary import COMMANDS, HOLD, PHASES, Verb
from proxy.errors import TemporaryError
from proxy.ids import RecordIds
from proxy.printable import one_direction
from proxy.status import Status
from proxy.store.store import Store
from proxy.version import __version__
from proxy.web.admin import AdminServices
from proxy.web.console.assets import asset_url
from proxy.web.console.wording import FILTERS, UNKNOWN, UNNAMED
from proxy.web.responses import ApiError, reachable

__all__ = ["Console", "Handler", "is_fragment", "page_safe"]

Handler = Callable[[Request], Awaitable[Response]]

_PAGES: Final[tuple[tuple[str, str], ...]] = (
    ("/", "Now"),
    ("/checks", "Checks"),
    ("/experiment", "Experiment"),
    ("/traffic", "Traffic"),
    ("/records", "Records"),
    ("/judge", "Judge"),
    ("/runs", "Runs"),
    ("/history", "History"),
)
_SECURITY: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}
_EDITION: Final = "x-ratchet-edition"
"""Which text the live block is: the browser leaves its own alone where that is the same."""


def is_fragment(request: Request) -> bool:
    """htmx asks for the live part of a page only."""
    return request.headers.get("hx-request") == "true"


class Console:
    """What all pages share: the services, the templates, and the way from a handler to a response."""

    def __init__(self, services: AdminServices) -> None:
        self.services = services
        self.ids = RecordIds(services.keys)
        self._env = jinja2.Environment(
            loader=jinja2.PackageLoader("proxy.web.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            finalize=page_safe,
        )
        self._env.filters |= FILTERS
        self._env.globals |= {
            "asset": asset_url,
            "pages": [page for page in _PAGES if page[0] != "/judge" or services.config.judge.kind != "none"],
            "phases": [phase.value for phase in Phase],
            "version": __version__,
            "commands": {verb.value: words for verb, words in COMMANDS.items()},
            "hold": HOLD,
            "terms": TERMS,
            "unknown": UNKNOWN,
            "unnamed": UNNAMED,
            "with_login": bool(services.config.admin.token),
        }

    @property
    def store(self) -> Store:
        """The store. Raises TemporaryError while it is away."""
        return reachable(self.services.store())

    async def status(self) -> Status:
        """What the loop sees and decides."""
        return await self.services.status()

    def grafana(self, dashboard: str, since: float | str, until: float | None = None) -> str | None:
        """Our dashboard of that name, from `since` (Unix seconds, or as Grafana counts back: now-15m) to `until` (Unix
        seconds; None: now). None where no Grafana is known."""
        url = self.services.config.admin.grafana_url
        if url is None:
            return None
        start = since if isinstance(since, str) else f"{since * 1000:.0f}"
        span = {"from": start, "to": "now" if until is None else f"{until * 1000:.0f}"}
        return f"{url.rstrip('/')}/d/ratchet-{dashboard}?{urlencode(span)}"

    def page(self, handler: Handler) -> Handler:
        """`handler`, with its errors as pages."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except TemporaryError as exc:
                return await self._error(request, 503, str(exc))
            except ApiError as exc:
                return await self._error(request, exc.status, str(exc))
            except HTTPException as exc:
                return await self._error(request, exc.status_code, exc.detail)

        return answer

    async def render(
        self, request: Request, template: str, context: Mapping[str, Any], *, status_code: int = 200
    ) -> Response:
        """The page, or its live block where htmx asks. `context` may bring the status along."""
        values = {"here": request.url.path, "query": request.url.query, **context}
        if "status" not in values:
            values["status"] = await self.status()
        values["offered"] = _offered(values["status"])
        found = self._env.get_template(template)
        headers = {**_SECURITY, "vary": "HX-Request"}
        if "live" not in found.blocks:
            return HTMLResponse(found.render(values), status_code, headers=headers)
        live = "".join(found.blocks["live"](found.new_context(values)))
        live += self._env.get_template("chip.html").render({**values, "out_of_band": True})
        edition = blake2b(live.encode(), digest_size=8).hexdigest()
        html = live if is_fragment(request) else found.render({**values, "edition": edition})
        return HTMLResponse(html, status_code, headers={**headers, _EDITION: edition})

    async def partial(self, template: str, context: Mapping[str, Any], *, status_code: int = 200) -> Response:
        """A piece of HTML without a page around it."""
        html = self._env.get_template(template).render(context)
        return HTMLResponse(html, status_code, headers=_SECURITY)

    async def _error(self, request: Request, status_code: int, message: str) -> Response:
        context = {"code": status_code, "message": message}
        return await self.render(request, "error.html", context, status_code=status_code)


def page_safe(value: Any) -> Any:
    """What a template prints: a user's text turns no line of the page around."""
    return one_direction(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _offered(status: Status) -> list[str]:
    """The commands that fit the phase; the loop has the last word and says why it refuses."""
    if status.at is None:
        return []
    pause = Verb.RESUME if status.phase.paused else Verb.PAUSE
    return [verb.value for verb in (*PHASES[Phase(status.phase.name)].commands, pause)]
