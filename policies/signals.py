"""What users show without voting: they have an answer made anew, ask again in other words, retry, leave, or copy it.

Each is a fact of the *earlier* answer that a later request reveals, so it is worked out from all that a user has asked
within some minutes, in whatever order that became known (`shown`). Nothing of it says that an answer was bad; but a
model whose answers are regenerated far more often than another's is another model than was meant.

Programs ask the same again by design: ten copies at once, a sweep over temperatures, a test that runs in a loop. So a
request counts as a regeneration only where its settings are the same, no copy of it was being answered when it began,
and a moment had passed in which somebody could have read the answer. What an SDK retries, it says itself.

What a user says next is judged by rules (`policies.complaints`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from enum import IntFlag
from typing import Final, NamedTuple

__all__ = ["EARLIER_S", "LONGEST_S", "REVEALED", "WINDOW_S", "Signal", "UserRequest", "shown", "signal_words"]

WINDOW_S: Final = 600.0
"""So long after the end of an answer what follows still says something of it."""
LONGEST_S: Final = 300.0
"""Of an answer that took longer nothing is said: a bound on what has to be looked at together."""
PAUSE_S: Final = 1.0
"""A program asks again at once; a person has seen the answer first."""
CLOCKS_S: Final = 1.0
"""A retry may begin before we have noticed that the client has left."""
EARLIER_S: Final = WINDOW_S + LONGEST_S
"""What a request reveals is of a request that began at most so long before it."""


class Signal(IntFlag):
    """Of one request and its answer; the integer is what the store keeps."""

    NONE = 0
    REGENERATED = 1
    """The user has had it made anew."""
    REPHRASED = 2
    """The user asked the same in other words next, or complained."""
    RETRIED = 4
    """The client's SDK asked for it again."""
    ABANDONED = 8
    """The client did not wait for its end."""
    JUDGEABLE = 16
    """People got an answer, and it is known whose it is and what was asked: it could be regenerated or rephrased."""
    TELLS_RETRIES = 32
    """The client says which attempt this is: it could be retried."""
    AWAITED = 64
    """It could be abandoned."""
    ANSWER = 128
    """People got an answer: it could be copied."""
    RETRY = 256
    """It is itself an attempt after the first."""
    COMPLAINT = 512
    """Its last turn complains about the answer before, or asks the same in other words."""


REVEALED: Final = (Signal.REGENERATED | Signal.REPHRASED | Signal.RETRIED).value
"""What only later requests tell."""
_WORDS: Final = (Signal.REGENERATED, Signal.REPHRASED, Signal.RETRIED, Signal.ABANDONED)


def signal_words(bits: int) -> list[str]:
    """What was shown, in words; what could have been is nothing to tell."""
    return [flag.name.lower() for flag in _WORDS if bits & flag.value and flag.name]


class UserRequest(NamedTuple):
    """A request of one user."""

    id: str
    started_s: float
    ended_s: float
    signals: int


def shown(copies: Sequence[UserRequest], complaints: Sequence[UserRequest] = ()) -> Mapping[str, int]:
    """What is revealed (bits out of REVEALED) of each of `copies`, all of one user who asked the very same in each.

    `complaints`: the user's requests whose last turn complains about an answer to that. The result does not depend on
    the order of either.
    """
    ordered = sorted(copies, key=lambda one: (one.started_s, one.id))
    first = [one for one in ordered if not one.signals & Signal.RETRY.value]
    found = {one.id: 0 for one in ordered if one.ended_s - one.started_s <= LONGEST_S}
    anew = _asked_anew(ordered)
    for one in first if anew else ():
        place = bisect_left(anew, one.ended_s + PAUSE_S)
        if place < len(anew) and anew[place] <= one.ended_s + WINDOW_S:
            _mark(found, one, Signal.REGENERATED, Signal.JUDGEABLE)
    for one in _at_once(first):
        if one.id in found:
            found[one.id] &= ~Signal.REGENERATED.value
    for one in ordered:
        if one.signals & Signal.RETRY.value:
            _mark(found, _last_before(ordered, one.started_s), Signal.RETRIED, Signal.TELLS_RETRIES)
    for complaint in complaints:
        _mark(found, _last_before(ordered, complaint.started_s), Signal.REPHRASED, Signal.JUDGEABLE)
    return found


def _mark(found: dict[str, int], one: UserRequest | None, signal: Signal, where: Signal) -> None:
    """Note the signal, if it could be shown of that request."""
    if one is not None and one.id in found and one.signals & where.value:
        found[one.id] |= signal.value


def _asked_anew(ordered: Sequence[UserRequest]) -> list[float]:
    """When requests began that are no retries, and while no earlier copy was being answered."""
    began, busy_until = [], -math.inf
    for one in ordered:
        if busy_until <= one.started_s and not one.signals & Signal.RETRY.value:
            began.append(one.started_s)
        busy_until = max(busy_until, min(one.ended_s, one.started_s + LONGEST_S))
    return began


def _at_once(first: Sequence[UserRequest]) -> Iterator[UserRequest]:
    """Those that were being answered while another copy was."""
    busy_until = -math.inf
    for place, one in enumerate(first):
        overtaken = place + 1 < len(first) and first[place + 1].started_s < one.ended_s
        if one.started_s < busy_until or overtaken:
            yield one
        busy_until = max(busy_until, min(one.ended_s, one.started_s + LONGEST_S))


def _last_before(asked: Sequence[UserRequest], at_s: float) -> UserRequest | None:
    """The latest that had ended by then, and not long ago."""
    ended = (one for one in asked if one.started_s < at_s and -CLOCKS_S <= at_s - one.ended_s <= WINDOW_S)
    return max(ended, key=lambda one: (one.started_s, one.id), default=None)
