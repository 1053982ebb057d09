"""JSON answers and JSON errors, one shape for every URL of ours.

    {"error": {"message": "what was wrong, what to change", "type": "ratchet_error", "code": "bad_request", "field": …}}

It is the shape that OpenAI's SDKs print, as in the gateway; `field` only where one is to blame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from proxy.errors import PermanentError, TemporaryError

__all__ = ["EXCEPTION_HANDLERS", "ApiError", "JsonResponse", "error_response", "reachable"]

_CODES: Final = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
                 409: "conflict", 410: "too_old", 413: "too_large", 415: "unsupported_media_type", 429: "too_many",
                 503: "unavailable"}  # fmt: skip


_STORE_RETRY_S: Final = 5.0
_Store = TypeVar("_Store")
_ALWAYS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class JsonResponse(Response):
    """JSON through orjson; never cached, for it is about this moment."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content, status_code, {**_ALWAYS, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """`content` as JSON; dataclasses, enums and mappings included."""
        return orjson.dumps(content, default=_plain, option=orjson.OPT_NON_STR_KEYS)


class ApiError(Exception):
    """A request that is answered with an error: `status`, a message for people, and the field to blame."""

    def __init__(
        self, status: int, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.headers = headers


def reachable(store: _Store | None) -> _Store:
    """The store that a request needs. Raises TemporaryError while it is away, that is None."""
    if store is None:
        raise TemporaryError("the store cannot be reached at the moment", retry_after_s=_STORE_RETRY_S)
    return store


def error_response(
    status: int, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> JsonResponse:
    """The one shape of an error."""
    error = {"message": message, "type": "ratchet_error", "code": _CODES.get(status, "error")}
    return JsonResponse({"error": error | ({"field": field} if field else {})}, status, headers)


def _plain(value: Any) -> Any:
    """What orjson does not know by itself."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


async def _api_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return error_response(exc.status, str(exc), field=exc.field, headers=exc.headers)


async def _http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    message = exc.detail
    if exc.status_code == 404:
        message = f"nothing is served at {request.url.path}"
    elif exc.status_code == 405:
        allowed = (exc.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed at {request.url.path}; allowed: {allowed}"
    return error_response(exc.status_code, message, headers=exc.headers)


async def _temporary(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, TemporaryError)
    return error_response(503, str(exc), headers={"retry-after": str(math.ceil(exc.retry_after_s))})


async def _refused(request: Request, exc: Exception) -> Response:
    return error_response(503, str(exc))


EXCEPTION_HANDLERS: Final[Mapping[Any, ExceptionHandler]] = {
    ApiError: _api_error,
    HTTPException: _http_exception,
    TemporaryError: _temporary,
    PermanentError: _refused,
}
