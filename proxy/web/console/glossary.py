"""Glossary: the words of these pages, and where the documentation says more of each."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.glossary import TERMS
from proxy.web.console.page import Console

__all__ = ["glossary_routes"]

_DOCS: Final = "https://github.com/ratchet-proxy/ratchet/blob/main/docs/"


def glossary_routes(console: Console) -> list[Route]:
    """GET /glossary."""

    async def page(request: Request) -> Response:
        return await console.render(request, "glossary.html", {"docs": _DOCS, "words": sorted(TERMS, key=str.lower)})

    return [Route("/glossary", console.page(page))]
