"""Traffic: requests, failures, refusals, latency, tokens, scores, votes per arm, from the sums per minute and hour."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policies.records import Arm
from policies.wording import counted
from proxy.store.tables.values import TrafficPoint
from proxy.web.console.page import Console
from proxy.web.console.series import ArmLine, arm_chart
from proxy.web.console.wording import UNNAMED, share_text
from proxy.web.responses import ApiError, JsonResponse

__all__ = ["ArmStep", "arm_steps", "quality_chart", "traffic_routes", "vote_chart"]


@dataclass(frozen=True, slots=True)
class _Range:
    words: str
    length_s: int
    step_s: int


_RANGES: Final = {
    "1h": _Range("1 hour", 3600, 60),
    "6h": _Range("6 hours", 21_600, 600),
    "24h": _Range("24 hours", 86_400, 1800),
    "7d": _Range("7 days", 604_800, 3600),
    "30d": _Range("30 days", 2_592_000, 14_400),
}
_OF_ALL: Final = "share of the requests"
_LEAST_STEPS: Final = 12
"""A young install's charts begin where its traffic does, but never show fewer steps."""


@dataclass(frozen=True, slots=True)
class ArmStep:
    """One step of time of one arm, whichever models served it."""

    points: Sequence[TrafficPoint]

    @property
    def requests(self) -> int:
        return sum(point.requests for point in self.points)

    @property
    def error_share(self) -> float | None:
        """Failed requests, those that the champion had to answer included."""
        failed = sum(point.errors + point.fallbacks for point in self.points)
        return min(1.0, failed / self.requests) if self.requests else None

    @property
    def refused_share(self) -> float | None:
        """Requests declined with a 4xx."""
        return sum(point.refused for point in self.points) / self.requests if self.requests else None

    @property
    def p95_s(self) -> float | None:
        """Where two models served the arm in one step, that of the slower one."""
        known = [point.p95_s for point in self.points if point.p95_s is not None]
        return max(known) if known else None

    @property
    def tokens(self) -> int:
        return sum(point.prompt_tokens + point.completion_tokens for point in self.points)

    @property
    def scored(self) -> int:
        """Answers with a score."""
        return sum(point.scored for point in self.points)

    @property
    def quality(self) -> float | None:
        """Mean score."""
        total = sum((point.quality or 0.0) * point.scored for point in self.points)
        return total / self.scored if self.scored else None

    @property
    def voted(self) -> int:
        """Thumbs up and down."""
        return sum(point.votes.positive + point.votes.negative for point in self.points)

    @property
    def positive_share(self) -> float | None:
        """Thumbs up among thumbs up and down."""
        return sum(point.votes.positive for point in self.points) / self.voted if self.voted else None


Steps = dict[Arm, dict[int, ArmStep]]


def arm_steps(points: Sequence[TrafficPoint]) -> Steps:
    """By arm and start of the step (Unix seconds)."""
    gathered: defaultdict[tuple[Arm, int], list[TrafficPoint]] = defaultdict(list)
    for point in points:
        gathered[point.arm, point.at_us // 1_000_000].append(point)
    steps: Steps = {arm: {} for arm in Arm}
    for (arm, at_s), found in gathered.items():
        steps[arm][at_s] = ArmStep(found)
    return steps


@dataclass(frozen=True, slots=True)
class _Axes:
    """The steps of time that the charts of a page have in common."""

    x: Sequence[int]
    step_s: int
    elapsed_s: Sequence[float]
    """How much of each step has passed."""


def _of_arms(steps: Steps, axes: _Axes, value: Callable[[ArmStep], float | None],
             rests_on: Callable[[ArmStep], int] | None) -> dict[Arm, ArmLine]:  # fmt: skip
    """The line of each arm that had traffic in the time that is shown."""
    lines = {}
    for arm, of_arm in steps.items():
        here = [of_arm.get(at) for at in axes.x]
        if any(here):
            n = [None if step is None else rests_on(step) for step in here] if rests_on is not None else []
            lines[arm] = ArmLine([None if step is None else value(step) for step in here], n)
    return lines


def _rate_chart(steps: Steps, axes: _Axes, axis: str, words: str, count: Callable[[ArmStep], int]) -> Any:
    """Per minute. The step under way is left out until a quarter of it tells something."""
    lines = {
        arm: ArmLine(
            [
                None if value is None or elapsed < axes.step_s / 4 else value * 60 / elapsed
                for value, elapsed in zip(line.values, axes.elapsed_s, strict=True)
            ]
        )
        for arm, line in _of_arms(steps, axes, count, None).items()
    }
    return arm_chart(axes.x, lines, unit="count", axis=axis, summary=words, step=axes.step_s)


def _share_chart(steps: Steps, axes: _Axes, axis: str, words: str, value: Callable[[ArmStep], float | None]) -> Any:
    """A share of the requests."""
    lines = _of_arms(steps, axes, value, lambda step: step.requests)
    return arm_chart(axes.x, lines, unit="share", axis=axis, summary=words, step=axes.step_s)


def _latency_chart(steps: Steps, axes: _Axes) -> Any:
    lines = _of_arms(steps, axes, lambda step: step.p95_s, lambda step: step.requests)
    words = "95 % of the answers were faster than this."
    return arm_chart(axes.x, lines, unit="seconds", axis="time to the whole answer", summary=words, step=axes.step_s)


def quality_chart(steps: Steps, x: Sequence[int], step_s: int) -> Any:
    """Mean score per arm."""
    lines = _of_arms(steps, _Axes(x, step_s, ()), lambda step: step.quality, lambda step: step.scored)
    words = "Mean score of the answers, 0 to 1."
    return arm_chart(x, lines, unit="score", axis="mean score", summary=words, step=step_s, of="scores")


def vote_chart(steps: Steps, x: Sequence[int], step_s: int) -> Any:
    """Share of thumbs up per arm."""
    lines = _of_arms(steps, _Axes(x, step_s, ()), lambda step: step.positive_share, lambda step: step.voted)
    words = "Thumbs up among all thumbs, up and down."
    return arm_chart(x, lines, unit="share", axis="share of the thumbs", summary=words, step=step_s, of="thumbs")


def traffic_routes(console: Console) -> list[Route]:
    """GET /traffic and the numbers of its charts."""
    traffic = _Traffic(console)
    return [Route("/traffic", console.page(traffic.page)), Route("/traffic/data", traffic.data)]


class _Traffic:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def page(self, request: Request) -> Response:
        name, chosen = _chosen(request)
        since_us, until_us = self._window(chosen)
        points = await self._console.store.traffic.points(since_us, until_us, chosen.step_s)
        context = {
            "chosen": name,
            "range": chosen,
            "ranges": _RANGES,
            "rows": await self._rows(points, since_us),
            "grafana": self._console.grafana("traffic", f"now-{name}"),
        }
        return await self._console.render(request, "traffic.html", context)

    async def _rows(self, points: Sequence[TrafficPoint], since_us: int) -> list[dict[str, Any]]:
        """Sums per model, the busiest first."""
        store = self._console.store
        names = {0: UNNAMED} | {model.id: model.name for model in await store.models.list()}
        by_model: defaultdict[int, list[TrafficPoint]] = defaultdict(list)
        for point in points:
            by_model[point.model_id].append(point)
        rows = [
            {
                "name": names.get(model_id, f"model {model_id}"),
                "arms": sorted({point.arm.label for point in found}),
                "sums": ArmStep(found),
                "p50_s": await store.traffic.duration_quantile(model_id, since_us, 0.5),
                "p95_s": await store.traffic.duration_quantile(model_id, since_us, 0.95),
            }
            for model_id, found in by_model.items()
        ]
        return sorted(rows, key=lambda row: -row["sums"].requests)

    async def data(self, request: Request) -> Response:
        _, chosen = _chosen(request)
        since_us, until_us = self._window(chosen)
        steps = arm_steps(await self._console.store.traffic.points(since_us, until_us, chosen.step_s))
        step = chosen.step_s
        until_s = until_us // 1_000_000
        first_s = min((at for of_arm in steps.values() for at in of_arm), default=until_s)
        x = list(range(max(since_us // 1_000_000, min(first_s, until_s - _LEAST_STEPS * step)), until_s, step))
        axes = _Axes(x, step, [*(float(step) for _ in x[:-1]), self._console.services.clock.now() - x[-1]])
        whole = ArmStep([point for of_arm in steps.values() for of_step in of_arm.values() for point in of_step.points])
        asked = f"{counted(whole.requests, 'request')} in {chosen.words}."
        tokens = "Prompt and completion tokens together."
        failed, refused = (
            "none yet." if share is None else f"{share_text(share)} of {counted(whole.requests, 'request')}."
            for share in (whole.error_share, whole.refused_share)
        )
        return JsonResponse(
            {
                "requests": _rate_chart(steps, axes, "requests a minute", asked, lambda s: s.requests),
                "errors": _share_chart(steps, axes, _OF_ALL, f"Failed: {failed}", lambda s: s.error_share),
                "refused": _share_chart(steps, axes, _OF_ALL, f"Declined, 4xx: {refused}", lambda s: s.refused_share),
                "latency": _latency_chart(steps, axes),
                "tokens": _rate_chart(steps, axes, "tokens a minute", tokens, lambda s: s.tokens),
                "quality": quality_chart(steps, x, step),
                "votes": vote_chart(steps, x, step),
            }
        )

    def _window(self, chosen: _Range) -> tuple[int, int]:
        """Microseconds from and to, whole steps, the one under way included."""
        step_us = chosen.step_s * 1_000_000
        until_us = (int(self._console.services.clock.now() * 1e6) // step_us + 1) * step_us
        return until_us - chosen.length_s * 1_000_000, until_us


def _chosen(request: Request) -> tuple[str, _Range]:
    name = request.query_params.get("range", "1h")
    if name not in _RANGES:
        raise ApiError(400, f"range: {name!r} is not one of {', '.join(_RANGES)}", field="range")
    return name, _RANGES[name]
