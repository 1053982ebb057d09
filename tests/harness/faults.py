"""Kill the controller at a chosen point: wrappers that raise `Crash` right after an effect has happened.

What is wrapped is real (store, trainer, deployer, dataset builder); the wrapper only counts the calls that change
something, and dies after the ones it is told to. `Crash` is no Exception, so nothing in the loop can catch it.

An effect has a label that is the same when it is done again after a crash: the action that it belongs to, which one
of its kind that is, and the method (`Promote 1: Journal.transition`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Crash", "Faults"]

_EFFECTS: Final = frozenset(
    {"transition", "intend", "add", "add_users", "start", "cancel", "deploy", "retire", "build", "discard"}
)
_NOUNS: Final = {"models", "experiments", "runs", "journal", "state", "commands", "configs"}


class Crash(BaseException):
    """The process has died."""


class Faults:
    """Counts effects over all its wrappers, and outlives the processes that it kills."""

    def __init__(self, dies_after: Callable[[int, str], bool] = lambda count, label: False) -> None:
        self.count = 0
        self.labels: list[str] = []
        """In order of their first time."""
        self.crashed: list[str] = []
        self._dies_after = dies_after
        self._intents: Counter[str] = Counter()
        self._under_way = "start"

    def around(self, thing: Any) -> Any:
        """`thing`, with its effects counted."""
        return _Around(thing, self)

    def intended(self, action: str) -> None:
        """What follows belongs to this action."""
        self._intents[action] += 1
        self._under_way = f"{action} {self._intents[action]}"

    def happened(self, name: str) -> None:
        """One effect has happened."""
        self.count += 1
        label = f"{self._under_way}: {name}"
        if label not in self.labels:
            self.labels.append(label)
        if self._dies_after(self.count, label):
            self.crashed.append(label)
            raise Crash(label)


class _Around:
    def __init__(self, thing: Any, faults: Faults) -> None:
        self._thing = thing
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name in _NOUNS and not callable(found):
            return _Around(found, self._faults)
        if name not in _EFFECTS:
            return found

        async def effect(*args: Any, **kwargs: Any) -> Any:
            result = await found(*args, **kwargs)
            if name == "intend":
                self._faults.intended(args[0])
            self._faults.happened(f"{type(self._thing).__name__}.{name}")
            return result

        return effect
