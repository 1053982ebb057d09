"""Judging functions, as users write them; the tests name them."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def by_length(records: list[dict[str, Any]]) -> list[float]:
    print("a word that is for the log")
    return [min(1.0, len(record["text"]) / 10) for record in records]


async def with_reasons(records: list[dict[str, Any]]) -> list[Any]:
    return [{"score": 0.25, "reason": record["messages"][-1]["content"]} for record in records]


def out_of_range(records: list[dict[str, Any]]) -> list[Any]:
    return [7 for _ in records]


def declines(records: list[dict[str, Any]]) -> list[Any]:
    return [None for _ in records]


def too_few(records: list[dict[str, Any]]) -> list[float]:
    return [1.0] * (len(records) - 1)


def a_word(records: list[dict[str, Any]]) -> str:
    return "good"


def raises(records: list[dict[str, Any]]) -> list[float]:
    raise LookupError("no such rubric")


def ends(records: list[dict[str, Any]]) -> list[float]:
    os._exit(3)


def hangs(records: list[dict[str, Any]]) -> list[float]:
    if "hang" in records[0]["text"]:
        time.sleep(600)
    return [1.0] * len(records)


def secrets(records: list[dict[str, Any]]) -> list[Any]:
    told = [name for name in os.environ if name.startswith("RATCHET_")]
    return [{"score": 1, "reason": f"{told} {sys.stdin.read()!r}"} for _ in records]
