"""What the lease holder keeps in order between decisions: deployments, the quality baseline, the drop detector.

None of it is a decision: it brings back what a restart lost, and feeds what statistics need by the hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

from policies.lifecycle import Phase
from policies.rows import Model
from policies.state import LoopState
from policies.transition import Position
from policies.triggers import DropDetector
from proxy.errors import PermanentError, TemporaryError
from proxy.log_throttle import ThrottledLog
from proxy.loop.codec import from_json, to_json
from proxy.loop.look.observe import ASK_TIMEOUT_S
from proxy.loop.look.quality import QualityReader
from proxy.loop.ports import Deployer, Endpoint
from proxy.loop.state import DETECTOR_ENTRY
from proxy.store.store import Store

__all__ = ["Maintenance", "measured_baseline"]

_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US
_BASELINE_DAYS: Final = 14
_BASELINE_VOLUMES: Final = 10
"""The baseline is frozen from at least this many times a day's scored requests …"""
_BASELINE_MIN: Final = 100
"""… and at least this many."""
_CHAMPION_ALONE: Final = (Phase.IDLE, Phase.TRAINING, Phase.DEPLOYING, Phase.CHECKING, Phase.SHADOWING)
QualityWindow: TypeAlias = Callable[[int, int], Awaitable[tuple[int, float | None]]]
"""(scores, their mean) between two instants, in Unix microseconds."""
_CATCH_UP_HOURS: Final = 48
"""After a longer stop the detector does not look at older hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Reads much, writes little; all of it is safe to repeat."""

    store: Store
    deployer: Deployer
    quality: QualityReader
    troubles: ThrottledLog

    async def deployments(self, position: Position) -> tuple[Model, ...]:
        """Models with traffic whose server came back elsewhere, with their new handle and endpoint."""
        live = [position.champion]
        if position.state.phase_name is not Phase.DEPLOYING:
            live += [model for model in (position.challenger, position.previous) if model is not None]
        mended = [await self._ensured(model) for model in live if "handle" in model.detail and model.url is not None]
        return tuple(model for model in mended if model is not None)

    async def _ensured(self, model: Model) -> Model | None:
        """`model` as it is now deployed, where that has changed."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                handle = await self.deployer.ensure(dict(model.detail["handle"]))
                readiness = await self.deployer.ready(handle)
        except (TemporaryError, PermanentError, OSError, TimeoutError) as exc:
            self.troubles.warning(model.id, "model %s could not be brought back: %s", model.name, exc)
            return None
        if handle == model.detail["handle"] and not isinstance(readiness, Endpoint):
            return None
        changed = replace(model, detail={**model.detail, "handle": handle})
        if isinstance(readiness, Endpoint):
            changed = replace(changed, url=readiness.url, model=readiness.model)
        return None if changed == model else changed

    async def baseline(self, state: LoopState, now_us: int) -> tuple[float, str] | None:
        """The mean to freeze now, and whose scores those are; None where there is one, or too little to go by."""
        if state.phase_name is not Phase.IDLE:
            return None
        source = await self.quality.source()
        if state.ledger.baseline is not None and state.ledger.baseline_by == source:
            return None
        mean = await measured_baseline(partial(self.quality.window, source), now_us)
        return None if mean is None else (mean, source)

    async def detector(self, state: LoopState, now_us: int) -> dict[str, Any] | None:
        """The detector's entry after the hours that have ended since; None where nothing has changed.

        Hours of a test are skipped: then the concurrent comparison decides, and the challenger's answers are mixed in.
        """
        if state.ledger.baseline is None:
            return None
        entry = await self.store.state.get(DETECTOR_ENTRY)
        last = now_us // _HOUR_US - 1
        known = None if entry is None else from_json(DropDetector, entry["detector"])
        if entry is None or known is None or known.baseline != state.ledger.baseline:
            return {"detector": to_json(DropDetector(baseline=state.ledger.baseline)), "hour": last}
        if last <= entry["hour"]:
            # a clock that was ahead has counted hours that are still to come
            return {"detector": to_json(known), "hour": last} if last < entry["hour"] else None
        if state.phase_name in _CHAMPION_ALONE:
            for hour in range(max(entry["hour"] + 1, last - _CATCH_UP_HOURS + 1), last + 1):
                means = await self.quality.user_hour_means(state.ledger.baseline_by, hour * _HOUR_US)
                known = known.update(means) if means else known
        return {"detector": to_json(known), "hour": last}


async def measured_baseline(window: QualityWindow, now_us: int) -> float | None:
    """The mean score to go by from `now_us` on; None where there are too few scores yet."""
    day, _ = await window(now_us - _DAY_US, now_us)
    scored, mean = await window(now_us - _BASELINE_DAYS * _DAY_US, now_us)
    enough = scored >= max(_BASELINE_MIN, _BASELINE_VOLUMES * day)
    return mean if enough and mean else None
