"""The terms of a test: every setting that says what is measured, how it is weighed, and who counts as one.

They are frozen with an epoch. Numbers that were collected under others are never pooled with new ones, so that where
one of these settings has changed a new epoch begins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import orjson

__all__ = ["terms_of"]

_TERMS: Final = (
    "ab_test_config.quality_weight", "ab_test_config.feedback_weight", "ab_test_config.latency_weight",
    "ab_test_config.icc", "ab_test_config.cuped", "scoring", "capture.query_pointers", "capture.response_pointers",
    "capture.quality_pointers", "capture.user_pointers", "capture.task_headers", "capture.task_patterns",
    "judge.kind", "judge.model", "judge.callable", "judge.rubric", "judge.version", "judge.sample", "judge.trust",
    "sticky.trust", "sticky.trusted_networks", "sticky.cluster_by", "feedback.anonymous",
)  # fmt: skip
_ABSENT: Final = object()


def terms_of(settings: Any) -> Mapping[str, str]:
    """The terms by the path of their setting, each value as JSON. What a library's settings lack is left out."""
    found = {path: _value(settings, path) for path in _TERMS}
    return {path: _json(value) for path, value in found.items() if value is not _ABSENT}


def _value(settings: Any, path: str) -> Any:
    for part in path.split("."):
        settings = getattr(settings, part, _ABSENT)
    return settings


def _json(value: Any) -> str:
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
