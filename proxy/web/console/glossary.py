"""Glossary: the words of these pages, as this version means them, and which page of its documentation says more.

No link leads away: an installation may have no internet, and what is found there may be another version's.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.glossary import TERMS
from proxy.web.console.page import Console

__all__ = ["glossary_routes"]


def glossary_routes(console: Console) -> list[Route]:
    """GET /glossary."""

    async def page(request: Request) -> Response:
        return await console.render(request, "glossary.html", {"words": sorted(TERMS, key=str.lower)})

    return [Route("/glossary", console.page(page))]
