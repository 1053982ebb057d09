"""Functions that settings name as `package.module:function`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["imported"]


def imported(target: str) -> Callable[..., Any]:
    """The function; a part behind the colon may have dots, as of a class's.

    Raises ImportError, AttributeError or ValueError where there is none, TypeError where it cannot be called, and
    whatever its module raises.
    """
    module, _, name = target.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{target} is not a function")
    return found  # type: ignore[no-any-return]
