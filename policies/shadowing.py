"""What copies of live requests say of a challenger: whether it is worse, as long as they go on.

X in [-1, 1] of a user is as in `policies.gate`: how much more the challenger's answer to a copy is worth than the
champion's to the request. The first comparable one of each user counts, in the order in which copies were sent; so each
says something of its own, and one may look as often as one likes. The bet on "worse" runs to the end, whatever the bet
on "close" has shown by then: what goes wrong after hours only is what copies are for.

They may turn a challenger away and pass none to users: that is up to the test. The check before has spent its chance to
turn away an equal one (5 %); this adds 1 % at most.

Answers that are missing say nothing of its answers: a server that is not reached, or has too much to do, is not worse.
But where most are missing there is nothing to go by, and that holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import log
from typing import Final

from policies.conclusion import on_average
from policies.gate import SCORES, Bet, CheckPart, GateVerdict, e_value
from policies.wording import counted

__all__ = ["ALPHA", "N_MIN", "Missing", "ShadowLook", "conclude_shadow", "shadow_look", "shadow_part"]

ALPHA: Final = 0.01
"""Chance at most that an equal challenger is turned away, however long copies go on."""
N_MIN: Final = 20
"""Users before whom it says nothing."""
_LEAST_COPIES: Final = 20


class Missing(StrEnum):
    """Why there is nothing to compare."""

    UNREACHED = "unreached"
    """No connection to the challenger."""
    BUSY = "busy"
    """It had too much to do (429, 503, 529)."""
    SLOW = "slow"
    """It was not ready in time, and neither was the champion."""
    CUT = "cut"
    """One of the answers was not kept whole."""
    UNREAD = "unread"
    """One of them was not understood, or must not be used."""


_WHY: Final[Mapping[Missing, str]] = {
    Missing.UNREACHED: "no connection to the challenger's server",
    Missing.BUSY: "the challenger's server had too much to do (429, 503, 529)",
    Missing.SLOW: "both models took longer than gateway.shadow_timeout_seconds",
    Missing.CUT: "an answer was too long to be kept (capture.max_response_bytes)",
    Missing.UNREAD: "an answer could not be read, or may not be used",
}
_OF_THE_SERVER: Final = (Missing.UNREACHED, Missing.BUSY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLook:
    """Where the bets stand."""

    users: int
    mean: float | None
    """Mean X; None without any."""
    log_worse: float
    """ln E against "equal or better", at its highest since N_MIN users; that is what counts."""
    log_close: float
    """The same against "worse by b or more", b as in the gate."""

    @property
    def worse(self) -> bool:
        """Whether it is proven worse."""
        return self.log_worse >= -log(ALPHA)

    @property
    def close(self) -> bool:
        """Whether it is shown not to be broken."""
        return self.log_close >= -log(SCORES.alpha_pass)


def shadow_look(xs: Iterable[float]) -> ShadowLook:
    """Look at X of each user, in the order in which copies were sent."""
    bets = Bet(shift=0.0, sign=-1), Bet(shift=SCORES.broken, sign=1)
    tops = [0.0, 0.0]
    users, total = 0, 0.0
    for x in xs:
        users, total = users + 1, total + x
        for at, bet in enumerate(bets):
            bet.add(x)
            if users >= N_MIN:
                tops[at] = max(tops[at], bet.log_e)
    mean = total / users if users else None
    return ShadowLook(users=users, mean=mean, log_worse=tops[0], log_close=tops[1])


def shadow_part(look: ShadowLook, *, most: int) -> CheckPart:
    """The look as a part of a report; of at most so many copies (`most`)."""
    verdict = GateVerdict.REJECT if look.worse else GateVerdict.PASS if look.close else None
    return CheckPart(
        name="copies",
        verdict=verdict,
        compared=look.users,
        most=most,
        mean=look.mean,
        e_worse=e_value(look.log_worse),
        e_close=e_value(look.log_close),
        broken=SCORES.broken,
    )


def conclude_shadow(
    look: ShadowLook, *, copies: int, missing: Mapping[Missing, int]
) -> tuple[GateVerdict | None, tuple[str, ...]]:
    """Verdict and sentences, the deciding one first. `copies`: answers to copies, comparable or not; `missing`: how
    many of those are not, and why. None: nothing speaks against it so far."""
    said = [_compared(look)]
    said += [_lacks(why, missing[why]) for why in Missing if missing.get(why)]
    away = sum(missing.get(why, 0) for why in _OF_THE_SERVER)
    if look.worse:
        return GateVerdict.REJECT, tuple(said)
    if copies >= _LEAST_COPIES and 2 * away > copies:
        return GateVerdict.HOLD, (f"the challenger did not answer {away} of {copies} copies of live requests", *said)
    return None, tuple(said)


def _compared(look: ShadowLook) -> str:
    if look.mean is None:
        return "copies of live requests: none is compared so far"
    said = f"copies of live requests of {counted(look.users, 'user')}: by visible defects it is {on_average(look.mean)}"
    if look.worse:
        return f"{said}: it is worse"
    return f"{said}: it is not worse by {SCORES.broken:g} or more" if look.close else said


def _lacks(why: Missing, count: int) -> str:
    return f"{'1 copy is' if count == 1 else f'{count} copies are'} not compared: {_WHY[why]}"
