"""A dataset's manifest in numbers that add up and a sentence or two, whichever version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.wording import share

__all__ = ["ancestry", "summary"]

_NOT_RECORDS: Final = frozenset(("rehearsal_malformed",))
"""Reasons under which no records are counted, but lines of the rehearsal file."""
_AUTHORS: Final = ("person", "elsewhere", "own")


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a manifest; null where its version did not know them yet.

    `seen` is `used` + `left_out`: records, each counted once. Lines are `samples` (of which `rehearsal_samples` come
    from the rehearsal file) and `holdout_samples`; a record can give two lines, and a pair takes two records.
    """
    dropped = {name: n for name, n in (manifest.get("dropped") or {}).items() if isinstance(n, int) and n}
    left_out = sum(n for name, n in dropped.items() if name not in _NOT_RECORDS)
    seen = int(manifest.get("seen") or 0)
    used = manifest.get("records")
    return {
        "format": manifest.get("format_type"),
        "sha256": manifest.get("sha256") or None,
        "seen": seen,
        "used": used if isinstance(used, int) and used else seen - left_out,
        "left_out": left_out,
        "dropped": dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0]))),
        "samples": manifest.get("samples") or 0,
        "holdout_samples": manifest.get("holdout_samples") or 0,
        "rehearsal_samples": manifest.get("rehearsal_samples") or 0,
        "rehearsal_malformed": manifest.get("rehearsal_malformed") or 0,
        "models": manifest.get("models") or {},
        "authors": _counts(manifest.get("authors"), _AUTHORS),
        "generations": manifest.get("generations") or None,
        "liked": manifest.get("liked"),
        "preferred": manifest.get("preferred"),
        "ancestry": ancestry(manifest),
        "reasoning": manifest.get("reasoning") or None,
        "bytes": manifest.get("bytes") or None,
        "tokens": manifest.get("tokens") or None,
        "tokens_by": manifest.get("tokens_by") or None,
        "estimated_cost": manifest.get("estimated_cost"),
        "config_fingerprint": manifest.get("config_fingerprint") or None,
    }


def ancestry(manifest: Mapping[str, Any]) -> str | None:
    """ "61 % by models trained here, 3 generations"; None where the manifest does not know who wrote the answers."""
    authors = _counts(manifest.get("authors"), _AUTHORS)
    if authors is None or not (lines := sum(authors.values())):
        return None
    if not authors["own"]:
        return "none by models trained here"
    said = f"{share(round(authors['own'] / lines, 2))} by models trained here"
    deepest = max((_whole(name) for name, n in (manifest.get("generations") or {}).items() if n), default=0)
    return f"{said}, {deepest} generation{'s' if deepest != 1 else ''}" if deepest else said


def _counts(counts: object, names: tuple[str, ...]) -> dict[str, int] | None:
    if not isinstance(counts, Mapping) or not counts:
        return None
    return {name: int(counts.get(name) or 0) for name in names}


def _whole(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else 0
