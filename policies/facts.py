"""What is known of an experiment when somebody looks at it: both arms' sums, stage by stage. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.carriers import Carriers
from policies.estimates import DEFAULT_ICC, Moments
from policies.past import PastMoments
from policies.records import Arm
from policies.stages import Stage, Stages

__all__ = ["ArmStats", "ExperimentFacts", "JudgeFacts", "StageFacts", "TagFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStats:
    """What one arm's users did in one epoch."""

    arm: Arm
    requests: int
    """Records of this arm, each counted once."""
    moments: Moments
    """Of the units of evidence: users, and clusters where nobody vouches for a user's name."""
    claimed_users: int = 0
    """Users whose names are only claimed; their clusters are units instead of them."""
    clusters: int = 0
    """Units that are clusters."""
    past: PastMoments | None = None
    """Of the units that were here before the experiment; None where their past is not used, or not read yet."""

    @property
    def users(self) -> int:
        """Sticky keys that were seen in this arm, by whatever name."""
        return self.moments.users - self.clusters + self.claimed_users


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFacts:
    """The judge, as far as decisions read it."""

    scorer: str
    """Kind, model and version of the rubric."""
    counts: bool
    """Its agreement with people's votes is proven (`policies.agreement`); else no decision reads its scores."""
    trust: Literal["rectified", "unrectified"] = "rectified"
    """`judge.trust`: whether votes rectify its scores before they may promote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFacts:
    """Both arms' records that have one tag."""

    champion: ArmStats
    challenger: ArmStats


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """One stage of an experiment: constant share, models and weights."""

    started_at: float
    """Unix seconds."""
    share: float
    """The challenger's share of the users."""
    champion: ArmStats
    challenger: ArmStats
    tags: Mapping[str, TagFacts] = field(default_factory=dict)
    """By tag, as `name=value`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFacts:
    """The evidence of one experiment: the stage that runs, and those of lower shares before it. Their rows are never
    pooled."""

    started_at: float
    """When the challenger first had users, Unix seconds; the longest duration counts from here."""
    epoch_started_at: float
    """When this stage began, Unix seconds."""
    share: float
    """The challenger's share of the users in this stage."""
    champion: ArmStats
    challenger: ArmStats
    slow_threshold_s: float | None
    """L95: the champion's 95th percentile of latency, frozen before the epoch; None when it was not known."""
    carriers: Carriers | None = None
    """Both arms without those that carry the evidence; None where nobody has looked, as is done before a promotion."""
    judge: JudgeFacts | None = None
    """None: there is none."""
    tags: Mapping[str, TagFacts] = field(default_factory=dict)
    """By tag, as `name=value`."""
    earlier: tuple[StageFacts, ...] = ()
    """Stages before this one, of lower shares; the shortest duration counts from the first."""
    planned: tuple[float, ...] = ()
    """Shares that the ramp still goes on to, rising."""
    set_by_hand: bool = False
    """A person has set the share: it stays there."""

    @property
    def stages(self) -> tuple[StageFacts, ...]:
        """In order of rising share; the last one runs."""
        current = StageFacts(
            started_at=self.epoch_started_at,
            share=self.share,
            champion=self.champion,
            challenger=self.challenger,
            tags=self.tags,
        )
        return (*self.earlier, current)

    @property
    def evidence_since(self) -> float:
        """When the first stage began, Unix seconds; the shortest duration counts from here."""
        return self.earlier[0].started_at if self.earlier else self.epoch_started_at

    @property
    def requests(self) -> tuple[int, int]:
        """Of the champion's and the challenger's arm, over all stages."""
        stages = self.stages
        return sum(stage.champion.requests for stage in stages), sum(stage.challenger.requests for stage in stages)

    def evidence(self, icc: float = DEFAULT_ICC) -> Stages:
        """What the gain is estimated from."""
        return Stages(tuple(_moments(s.share, s.champion, s.challenger) for s in self.stages), icc)

    def running(self) -> Stages:
        """The stage that runs, alone."""
        return Stages((_moments(self.share, self.champion, self.challenger),))

    def of_tag(self, tag: str, icc: float = DEFAULT_ICC) -> Stages:
        """The evidence in the records that have one tag."""
        found = ((stage.share, stage.tags[tag]) for stage in self.stages if tag in stage.tags)
        return Stages(tuple(_moments(share, of.champion, of.challenger) for share, of in found), icc)

    def requests_of_tag(self, tag: str) -> tuple[int, int]:
        """As `requests`, of those that have one tag."""
        found = [stage.tags[tag] for stage in self.stages if tag in stage.tags]
        return sum(of.champion.requests for of in found), sum(of.challenger.requests for of in found)


def _moments(share: float, champion: ArmStats, challenger: ArmStats) -> Stage:
    return Stage(
        share=share,
        champion=champion.moments,
        challenger=challenger.moments,
        champion_past=champion.past,
        challenger_past=challenger.past,
    )
