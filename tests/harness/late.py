"""Libraries that tests use, imported when they are first used.

Every process that shares a run's tests collects all of them, so that what a test file imports is paid for three times
and used once. Clients of models are the dearest: each takes a second.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["Late", "late"]


class Late:
    """An attribute of a class whose value is made when it is asked for."""

    def __init__(self, value: Callable[[], Any]) -> None:
        self._value = value

    def __get__(self, instance: object, owner: type) -> Any:
        return self._value()


class _LateModule:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest asks all that it finds whether it is a test
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


def late(module: str) -> Any:
    """As the module, which is imported once something of it is asked for."""
    return _LateModule(module)
