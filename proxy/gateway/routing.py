"""Whose request it is and which model it asks for: what of a request decides where it goes."""

from __future__ import annotations

from typing import Literal

from proxy.gateway.admin_token import AdminToken
from proxy.gateway.backend import Backend, ResolvedRoutes
from proxy.gateway.head import RequestHead
from proxy.gateway.head_cache import CachedHead
from proxy.gateway.request_buffer import RequestBuffer
from proxy.users.body_watch import Watch
from proxy.users.naming_body import NamingBody
from proxy.users.sticky import StickyKey, StickySources

__all__ = ["Awaited", "awaited_of", "conversation_of", "encoding_of", "forced_backend", "key_of"]

Awaited = Literal["user", "model", "whole"] | None
"""What the body is held for; `whole`: to be rewritten."""


def awaited_of(known: CachedHead, routes: ResolvedRoutes, sticky: StickySources, forced: Backend | None) -> Awaited:
    """What must be read of the body before the request can go anywhere."""
    if not known.maybe_json:
        return None
    if known.key is None and routes.splits and sticky.reads_body and forced is None:
        return "user"
    rewrites = routes.rewrites if forced is None else forced.target.model is not None
    return "model" if rewrites and "content-encoding" not in known.head.recorded else None


def encoding_of(known: CachedHead) -> str | None:
    """The Content-Encoding of a request's body; None where it has none."""
    return known.head.recorded.get("content-encoding")


def forced_backend(head: RequestHead, routes: ResolvedRoutes, admin: AdminToken) -> Backend | None:
    """The arm that QA asks for with `x-ratchet-arm`; None without the admin token beside it."""
    arm = head.fields.get(b"x-ratchet-arm")
    if arm is None or not admin.is_given(head):
        return None
    by_arm = {b"champion": routes.champion, b"challenger": routes.challenger, b"control": routes.control}
    return by_arm.get(arm.lower())


def key_of(
    known: CachedHead, body: RequestBuffer, watch: Watch | None, sticky: StickySources, limit: int
) -> StickyKey | None:
    """The sticky key of a request whose head names no user, as far as its body has come; `watch` has read that, if
    anything has. A compressed body is parsed up to `limit` bytes.

    A body that is whole here is parsed, in however many pieces it came: so the same body names the same user.
    """
    if body.size and (watch is None or (body.done and not body.cut)):
        return body_of(known, body, limit).user(sticky, known.conversation)
    if watch is not None:
        return sticky.in_watched(watch, known.conversation)
    return sticky.in_document(None, known.conversation)


def conversation_of(
    known: CachedHead, body: RequestBuffer, watch: Watch | None, sticky: StickySources, limit: int
) -> bytes | None:
    """The conversation that the body names; arguments as for `key_of`."""
    if watch is None or (body.done and not body.cut):
        return body_of(known, body, limit).conversation(sticky) if body.size else None
    return sticky.conversation_in(watch.fields())


def body_of(known: CachedHead, body: RequestBuffer, limit: int) -> NamingBody:
    """What has come of the body, for who looks for names in it."""
    kind, encoding = known.head.recorded.get("content-type", ""), encoding_of(known)
    return NamingBody(body.data, kind, encoding, limit)
