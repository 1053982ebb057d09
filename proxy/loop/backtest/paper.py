"""What became of a stored experiment on paper: its stages, when which verdict would first have come, and the watch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PaperEpoch", "PaperRise", "PaperTest", "PaperVerdict", "PaperWatch", "RealDecision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealDecision:
    """What ended the test, or the watch, in earnest."""

    at: float
    """Unix seconds."""
    action: str
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperVerdict:
    """The first look at which a verdict came out."""

    at: float
    """Unix seconds."""
    verdict: str
    action: str | None
    """What the loop would have done; None: it would have held."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRise:
    """When the share of a stage would first have risen."""

    at: float
    """Unix seconds."""
    share: float
    """The next stage's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEpoch:
    """One epoch of the test, as far as it was needed."""

    epoch: int
    share: float
    slow_threshold_s: float | None
    started_at: float
    ended_at: float
    """When its data ended: the next epoch, the end of the test, or now."""
    begun_by: str = ""
    """The event that it began with: a `policies.lifecycle.Event`."""
    by_hand: bool = False
    """A person has set the share."""
    goes_on: bool = False
    """It is a further stage: the evidence of the epoch before it counts on."""
    would_rise: PaperRise | None = None
    """None: the ramp would have stayed at this share."""
    looks: int = 0
    stored_requests: int = 0
    """Requests of the epoch that are still stored."""
    counted_requests: int = 0
    """Those that the loop has counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperWatch:
    """The hours after a promotion that really happened, watched again."""

    promoted_at: float
    """Unix seconds."""
    ended_at: float
    """When its data ended: the end of the watch, or now."""
    holdback_share: float
    """Of the users, whose answers by the old champion are compared with; 0: the hours before the promotion are."""
    looks: int
    stored_requests: int
    counted_requests: int
    """As in an epoch."""
    really: RealDecision | None
    """None: it still runs."""
    verdicts: tuple[PaperVerdict, ...]
    """Each that is not to go on watching, at its first look."""
    undecided: str | None
    """Where nothing would have ended it: why not, at the last look."""
    notes: tuple[str, ...] = ()
    """What cannot be known."""

    @property
    def decision(self) -> PaperVerdict | None:
        """What would have ended the watch."""
        return _decision(self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTest:
    """One experiment under the other settings."""

    experiment_id: int
    champion: str
    challenger: str
    epochs: tuple[PaperEpoch, ...]
    really: RealDecision | None
    """None: it still runs, or the journal does not say."""
    verdicts: tuple[PaperVerdict, ...]
    """Each verdict but `continue`, at its first look; the last one is the decision, where it has an action."""
    undecided: str | None
    """Where there is no decision: why not, at the last look."""
    watch: PaperWatch | None = None
    """None: there was no promotion, or none on paper."""
    notes: tuple[str, ...] = ()
    """What cannot be known."""

    @property
    def decision(self) -> PaperVerdict | None:
        """What would have ended the test."""
        return _decision(self.verdicts)


def _decision(verdicts: tuple[PaperVerdict, ...]) -> PaperVerdict | None:
    return verdicts[-1] if verdicts and verdicts[-1].action is not None else None
