"""Open WebUI's side of the matter: the three URLs that Ratchet asks, and votes that people give, change and delete."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.harness.webserver import serving

__all__ = ["KEY", "OpenWebUIServer"]

KEY: Final = "sk-openwebui-invented"
_LIST: Final = "/api/v1/evaluations/feedbacks/all/ids"


class OpenWebUIServer:
    """As its 0.12.4 answers an administrator's key; `trouble` makes it answer otherwise."""

    def __init__(self) -> None:
        self.votes: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.unlisted: set[str] = set()
        """Votes that its list lacks."""
        self.unreadable: set[str] = set()
        """Votes at which it fails."""
        self.listed: str | None = None
        """JSON that it has instead of its list."""
        self.moved_to = ""
        """An address to which it sends whoever asks."""
        self.trouble = ""
        """`keys are off`, `not an admin`, `of another make`, `down`, or nothing."""

    def give(
        self, vote_id: str, at_s: int, rating: object, *, message: str | None, user: str = "ada", **data: Any
    ) -> None:
        """Somebody votes, or changes the vote."""
        self.votes[vote_id] = {
            "id": vote_id, "user_id": user, "version": 0, "type": "rating",
            "data": {"rating": rating, "model_id": "m-small", "reason": "", "comment": "", "tags": []} | data,
            "meta": {"arena": False, "model_id": "m-small", "message_id": message, "chat_id": "c1", "message_index": 2},
            "snapshot": {"chat": {"title": "words of the whole chat"}}, "created_at": at_s, "updated_at": at_s,
        }  # fmt: skip

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; gives its URL."""
        async with serving(self.app()) as url:
            yield url

    def app(self) -> Starlette:
        """What is served."""
        return Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(path)
        refused = request.headers.get("authorization") != f"Bearer {KEY}" or self.trouble == "keys are off"
        if refused:
            return JSONResponse({"detail": "401 Unauthorized"}, 401)
        if self.trouble == "not an admin":
            return JSONResponse({"detail": "not allowed"}, 403)
        if self.trouble == "down":
            return Response("bad gateway", 502)
        if self.trouble == "of another make" or not path.startswith("/api/v1/"):
            return HTMLResponse("<!doctype html><title>an application</title>")  # its pages answer every path
        if self.moved_to:
            return RedirectResponse(self.moved_to + path, 307)
        if path == _LIST and self.listed is not None:
            return Response(self.listed, media_type="application/json")
        if path == _LIST:
            names = ("id", "user_id", "created_at", "updated_at")
            listed = [vote for key, vote in self.votes.items() if key not in self.unlisted]
            return JSONResponse([{name: vote[name] for name in names} for vote in listed])
        vote_id = path.removeprefix("/api/v1/evaluations/feedback/")
        if vote_id in self.unreadable:
            return Response("internal server error", 500)
        found = self.votes.get(vote_id)
        return JSONResponse({"detail": "not found"}, 404) if found is None else JSONResponse(found)
