"""Whose request it is and which model it asks for: what of a request decides where it goes."""

from __future__ import annotations

from hmac import compare_digest

from proxy.gateway.backend import Backend, Plan
from proxy.gateway.capture import Capture
from proxy.gateway.head import RequestHead
from proxy.gateway.held import HeldRequest
from proxy.gateway.known import KnownRequest
from proxy.gateway.sticky import StickyKey, StickySources
from proxy.wire.decode import UnknownEncodingError, decode

__all__ = ["body_decides", "forced_backend", "key_in_body", "names_user"]

_BEFORE_OBJECT = b"\xef\xbb\xbf \t\r\n"


def body_decides(known: KnownRequest, plan: Plan, sticky: StickySources) -> bool:
    """Whether the body must be read before the request can go anywhere: for the user's name, or the model's."""
    named = known.key is not None or not plan.splits or not sticky.reads_body
    return known.maybe_json and (plan.rewrites or not named)


def forced_backend(head: RequestHead, plan: Plan, admin_token: bytes | None) -> Backend | None:
    """The arm that QA asks for with `x-ratchet-arm`; None without the admin token beside it."""
    arm = head.fields.get(b"x-ratchet-arm")
    if arm is None or admin_token is None:
        return None
    if not compare_digest(head.fields.get(b"x-ratchet-admin-token", b""), admin_token):
        return None
    return {b"champion": plan.champion, b"challenger": plan.challenger}.get(arm.lower())


def names_user(head: RequestHead, body: Capture, sticky: StickySources) -> bool:
    """Whether the user's name may still come in `body`: it is a JSON object, not compressed."""
    if not sticky.reads_body or "content-encoding" in head.recorded:
        return False
    return bytes(body.data[:64]).lstrip(_BEFORE_OBJECT).startswith(b"{")


def key_in_body(head: RequestHead, body: HeldRequest, sticky: StickySources, limit: int) -> StickyKey | None:
    """The sticky key in a captured request body, decoded up to `limit` bytes where it is compressed."""
    if not body.size:
        return None
    encoding = head.recorded.get("content-encoding")
    if encoding is None:
        whole = body.whole
        return sticky.from_body(body.data, cut=True) if whole is None else sticky.from_body(whole)
    try:
        decoded = decode(bytes(body.data), encoding, limit)
    except UnknownEncodingError:
        return None
    return sticky.from_body(decoded, cut=body.cut or len(decoded) >= limit)
