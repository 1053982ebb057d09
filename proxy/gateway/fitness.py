"""Which requests are copied for a challenger without users: questions in a form that is understood, that came whole and
were answered by the champion (or failed by it), and that may be asked twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import orjson

from policies.records import Arm, Outcome
from policies.repeatable import Unfit, why_unfit
from proxy.gateway.facts import ExchangeFacts
from proxy.wire.brackets import too_many_brackets

if TYPE_CHECKING:
    from proxy.wire.extract.model import Shape

__all__ = ["ServedAt", "why_not", "why_not_body"]

ServedAt: TypeAlias = "Callable[[str], Sequence[Shape]]"
"""The API shapes that may be served at a path. They are loaded where there is a shadow only: it takes a while."""


def why_not(facts: ExchangeFacts, *, prefixed: bool) -> str | None:
    """What speaks against a copy, before the body is looked at; a reason of COPIES_DROPPED. `prefixed`: the URL of the
    challenger has a path, which dot segments could leave."""
    known, head = facts.known, facts.known.head
    if known.no_train:
        return Unfit.NO_TRAIN.value
    asked = head.method == b"POST" and known.maybe_json and "content-encoding" not in head.recorded
    if not asked or head.upgrade or (head.dotted and prefixed):
        return "kind"
    if not _comparable(facts):
        return "no_answer"
    if not facts.request.done or facts.request.cut or facts.response_body.cut:
        return "too_long"
    return None


def _comparable(facts: ExchangeFacts) -> bool:
    """Whether the champion has answered, or failed: what a client broke off or got wrong says nothing of either model,
    and what QA asked of an arm is nobody's."""
    if not facts.is_exposure or facts.backend.arm is not Arm.CHAMPION or facts.fallback is not None:
        return False
    return facts.outcome.failed or (facts.outcome is Outcome.OK and not 400 <= facts.status < 500)


def why_not_body(target: str, body: bytes, served_at: ServedAt) -> str | None:
    """What in the body of a request for `target` (its path and query) speaks against a copy."""
    if too_many_brackets(body):
        return "kind"
    try:
        document = orjson.loads(body)
    except ValueError:
        return "kind"
    if not isinstance(document, dict):
        return "kind"
    shapes = served_at(target.partition("?")[0].rstrip("/"))
    kind = next((shape.kind for shape in shapes if shape.fits(document)), None)
    if kind is None or not kind.trainable:
        return "kind"
    why = why_unfit(document, kind.name)
    return None if why is None else why.value
