"""Checks and comparisons as JSON documents, and what is asked for back from query parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.rows import Check
from proxy.store.control.comparison_pages import ComparedPage, ComparisonFilter, ComparisonPages, Show
from proxy.store.control.comparisons import ComparedRow
from proxy.store.store import Store
from proxy.web.documents import iso, user_text
from proxy.web.responses import ApiError

__all__ = ["LONGEST_WHO", "check_document", "comparison_document", "known_check", "page_of", "verdict_of_check",
           "wanted_of"]  # fmt: skip

LONGEST_WHO: Final = 200
_LONGEST_TAG: Final = 200
_WENT_ON: Final = ("pass", "passed_over")
"""How the loop ends a check when it goes on to the next step, whatever it has found."""


def verdict_of_check(check: Check) -> str | None:
    """What the check found by itself, else how it was ended; None while it runs."""
    found = check.summary.get("verdict")
    return found if check.verdict in _WENT_ON and isinstance(found, str) else check.verdict


def check_document(check: Check, names: Mapping[int, str]) -> dict[str, Any]:
    """One check with its report; `names` of models, by id."""
    return {
        "id": check.id,
        "kind": check.kind.value,
        "challenger": names.get(check.challenger_id),
        "champion": names.get(check.champion_id),
        "started_at": iso(check.started_us),
        "ended_at": None if check.ended_us is None else iso(check.ended_us),
        "verdict": verdict_of_check(check),
        "terms": dict(check.terms),
        "report": dict(check.summary),
    }


def comparison_document(row: ComparedRow, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Two answers with what was found, and who prefers which."""
    return {
        "item": row.item,
        "record": row.record_id,
        "user": user_text(row.user_hash),
        "tags": list(row.tags),
        "outcome": row.outcome,
        "facts": dict(row.facts),
        "created_at": iso(row.created_us),
        "target": row.data.get("target"),
        "request": row.data.get("request"),
        "champion": row.data.get("champion"),
        "challenger": row.data.get("challenger"),
        "preferences": dict(chosen),
    }


async def known_check(store: Store, check_id: int) -> Check:
    """The check with this number. Raises ApiError 404."""
    found = await store.checks.get(check_id) if check_id < 2**31 else None
    if found is None:
        raise ApiError(404, f"there is no check {check_id}")
    return found


def wanted_of(params: Mapping[str, str], default: Show = Show.ALL) -> ComparisonFilter:
    """What to list, from `show`, `tag` and `who`. Raises ApiError 400."""
    text = params.get("show") or default.value
    if text not in set(Show):
        raise ApiError(400, f"show: not one of {', '.join(Show)}", field="show")
    who, tag = (params.get(name, "").replace("\0", "").strip() for name in ("who", "tag"))
    for name, value, most in (("who", who, LONGEST_WHO), ("tag", tag, _LONGEST_TAG)):
        if len(value) > most:
            raise ApiError(400, f"{name}: more than {most} characters", field=name)
    return ComparisonFilter(show=Show(text), tag=tag or None, who=who)


async def page_of(
    pages: ComparisonPages, check_id: int, wanted: ComparisonFilter, cursor: str | None, limit: int
) -> ComparedPage:
    """A page of comparisons. Raises ApiError 400 for a cursor that no such list has returned."""
    if cursor is not None and (len(cursor) > 200 or "\0" in cursor):
        raise ApiError(400, "cursor: not valid; use the cursor that the list returned", field="cursor")
    try:
        return await pages.page(check_id, wanted, cursor=cursor, limit=limit)
    except ValueError as exc:
        raise ApiError(400, str(exc), field="cursor") from exc
