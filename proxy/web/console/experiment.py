"""Experiment: both arms side by side, the lift with its confidence sequence, and why it is not promoted yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.experiment import Assessment
from policies.lifecycle import Phase
from policies.rows import Experiment
from proxy.status import Status
from proxy.store.store import Store
from proxy.store.tables.control import Look
from proxy.web.console.page import Console
from proxy.web.console.road import RoadStep, road_of
from proxy.web.console.series import chart, series
from proxy.web.console.traffic import arm_steps, quality_chart, vote_chart
from proxy.web.console.watched import watch_of
from proxy.web.console.wording import UNKNOWN, bound_text
from proxy.web.responses import ApiError, JsonResponse

__all__ = ["experiment_routes"]

_BEFORE: Final = (Phase.DEPLOYING.value, Phase.CHECKING.value, Phase.SHADOWING.value)
"""Phases of a challenger that has no experiment yet."""
_POINTS: Final = 300
_ARM_POINTS: Final = 72
_LISTED: Final = 50
_STEPS_S: Final = (60, 300, 900, 3600, 14_400, 86_400)
_MOST_LIFT: Final = 10.0
"""Bounds above +1,000 % say nothing yet."""


def experiment_routes(console: Console) -> list[Route]:
    """GET /experiment (the running one, or the latest), /experiment/{id}, and the numbers of the charts."""
    pages = _Pages(console)
    return [
        Route("/experiment", console.page(pages.page)),
        Route("/experiment/{id:row}", console.page(pages.page)),
        Route("/experiment/{id:row}/data", pages.data),
    ]


class _Pages:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def page(self, request: Request) -> Response:
        store, status = self._console.store, await self._console.status()
        listed = await store.experiments.list(_LISTED)
        shown = await _shown(store, listed, request.path_params.get("id"))
        names = {model.id: model.name for model in await store.models.list()}
        running = shown is not None and status.experiment is not None and status.experiment.id == shown.id
        context = {
            "status": status,
            "shown": shown,
            "running": running,
            "listed": listed,
            "names": names,
            "assessment": await self._assessment(status, shown),
            "rules": self._console.services.config.ab_test_config,
            "grafana": None
            if shown is None
            else self._console.grafana(
                "experiment", shown.started_us / 1e6, shown.ended_us / 1e6 if shown.ended_us else None
            ),
            "past_saving": self._past_saving(shown, listed),
            "road": await self._road(status, shown),
            "by_hand": [] if shown is None else [stage.by_hand for stage in shown.stages if not stage.watch],
            "watched": await watch_of(self._console.store, status, shown),
            "coming": await self._coming(status, request),
            "conversations": sorted((await store.conversations.counts(shown.id)).items()) if shown else (),
        }
        return await self._console.render(request, "experiment.html", context)

    def _past_saving(self, shown: Experiment | None, listed: Sequence[Experiment]) -> str | None:
        """What taking the users' past off saves here, or would; beside the newest experiment."""
        known = self._console.store.past_savings.known
        if known is None or shown is None or shown.id != listed[0].id:
            return None
        return known.in_words(on=self._console.services.config.ab_test_config.cuped)

    async def _road(self, status: Status, shown: Experiment | None) -> list[RoadStep]:
        """The steps of the challenger whose experiment is shown."""
        if shown is None:
            return []
        rules = self._console.services.config.ab_test_config
        return await road_of(self._console.store, status, rules, shown.challenger_model_id, shown)

    async def _coming(self, status: Status, request: Request) -> list[RoadStep]:
        """The steps of a challenger that is on its way to its test; none where an experiment was asked for."""
        if status.challenger is None or status.phase.name not in _BEFORE or "id" in request.path_params:
            return []
        rules = self._console.services.config.ab_test_config
        return await road_of(self._console.store, status, rules, status.challenger.id, None)

    async def _assessment(self, status: Status, shown: Experiment | None) -> Assessment | Mapping[str, Any] | None:
        """The one the loop decides on, or the last that was kept, as JSON."""
        if shown is None:
            return None
        if status.experiment is not None and status.experiment.id == shown.id and status.experiment.assessment:
            return status.experiment.assessment
        kept = await self._console.store.experiments.looks(shown.id, limit=1)
        return kept[0].assessment if kept else None

    async def data(self, request: Request) -> Response:
        store = self._console.store
        shown = await store.experiments.get(request.path_params["id"])
        if shown is None:
            raise ApiError(404, "there is no such experiment")
        until_us = shown.ended_us or int(self._console.services.clock.now() * 1e6)
        every_us = max(1, (until_us - shown.started_us) // _POINTS)
        looks = await store.experiments.looks(shown.id, every_us=every_us)
        threshold = self._console.services.config.ab_test_config.promotion_threshold
        return JsonResponse({"lift": _lift(looks, threshold)} | await _arms(store, shown.started_us, until_us))


async def _shown(store: Store, listed: Sequence[Experiment], wanted: int | None) -> Experiment | None:
    if wanted is None:
        return listed[0] if listed else None
    found = await store.experiments.get(wanted)
    if found is None:
        raise ApiError(404, f"there is no experiment {wanted}")
    return found


def _lift(looks: Sequence[Look], threshold: float) -> dict[str, Any]:
    """Estimate and always-valid bounds; a new epoch starts a new line, for epochs are never pooled."""
    x: list[float] = []
    rows: list[tuple[float | None, float | None, float | None, int | None]] = []
    epoch_at = -math.inf
    for look in looks:
        at, seen = look.at_us / 1e6, look.assessment
        began = at - seen["elapsed_hours"] * 3600
        if x and began - epoch_at > 1.0:
            x.append((x[-1] + at) / 2)
            rows.append((None, None, None, None))
        epoch_at = began
        x.append(at)
        asked = seen["champion_requests"] + seen["challenger_requests"]
        rows.append((*(_possible(seen[name]) for name in ("theta", "lower", "upper")), asked))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    lines = [
        series("at most", "bound", columns[2], columns[3]),
        series("at least", "bound", columns[1], columns[3]),
        series("estimate", "estimate", columns[0], columns[3]),
    ]
    marks = {"no difference": 0.0, "threshold": threshold}
    axis = "change against the champion"
    return chart(x, lines, unit="change", axis=axis, summary=_lift_words(looks), marks=marks)


def _possible(value: float | None) -> float | None:
    """As it is drawn: nothing falls by more than all of it, and what is above the most would flatten all else."""
    return None if value is None else min(max(value, -1.0), _MOST_LIFT)


def _lift_words(looks: Sequence[Look]) -> str:
    if not looks:
        return "Not evaluated yet."
    last = looks[-1].assessment
    low, best, high = (bound_text(last[name]) for name in ("lower", "theta", "upper"))
    if best == UNKNOWN:
        return "Not enough data for an estimate yet."
    return f"Gain of the challenger: estimated {best}, at least {low}, at most {high} (bounds valid at any time)."


async def _arms(store: Store, since_us: int, until_us: int) -> dict[str, Any]:
    """Quality and votes of both arms over the experiment."""
    length_s = (until_us - since_us) / 1e6
    step_s = next((step for step in _STEPS_S if length_s / step <= _ARM_POINTS), _STEPS_S[-1])
    step_us = step_s * 1_000_000
    first, last = since_us // step_us * step_us, (until_us // step_us + 1) * step_us
    steps = arm_steps(await store.traffic.points(first, last, step_s))
    x = list(range(first // 1_000_000, last // 1_000_000, step_s))
    return {"quality": quality_chart(steps, x, step_s), "votes": vote_chart(steps, x, step_s)}
