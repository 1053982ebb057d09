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
from proxy.web.console.series import Unit, arm_chart
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
    def quality(self) -> float | None:
        """Mean score."""
        scored = sum(point.scored for point in self.points)
        total = sum((point.quality or 0.0) * point.scored for point in self.points)
        return total / scored if scored else None

    @property
    def positive_share(self) -> float | None:
        """Thumbs up among thumbs up and down."""
        up = sum(point.votes.positive for point in self.points)
        down = sum(point.votes.negative for point in self.points)
        return up / (up + down) if up + down else None


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


def _line(of_arm: dict[int, ArmStep], x: Sequence[int], value: Callable[[ArmStep], float | None]) -> list[float | None]:
    return [value(of_arm[at]) if at in of_arm else None for at in x]


def _chart(steps: Steps, x: Sequence[int], unit: Unit, words: str, value: Callable[[ArmStep], float | None]) -> Any:
    lines = {arm: _line(steps[arm], x, value) for arm in Arm}
    return arm_chart(x, lines, unit=unit, summary=words)


def _rate_chart(
    steps: Steps, x: Sequence[int], elapsed_s: Sequence[float], words: str, count: Callable[[ArmStep], int]
) -> Any:
    """Per minute. The step under way is left out until a quarter of it tells something."""
    step_s = max(elapsed_s)
    lines = {
        arm: [
            None if value is None or elapsed < step_s / 4 else value * 60 / elapsed
            for value, elapsed in zip(_line(steps[arm], x, count), elapsed_s, strict=True)
        ]
        for arm in Arm
    }
    return arm_chart(x, lines, unit="count", summary=words)


def quality_chart(steps: Steps, x: Sequence[int]) -> Any:
    """Mean score per arm."""
    return _chart(steps, x, "score", "Mean score of the answers, 0 to 1.", lambda step: step.quality)


def vote_chart(steps: Steps, x: Sequence[int]) -> Any:
    """Share of thumbs up per arm."""
    return _chart(steps, x, "share", "Thumbs up among all thumbs, up and down.", lambda step: step.positive_share)


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
        context = {"chosen": name, "range": chosen, "ranges": _RANGES, "rows": await self._rows(points, since_us)}
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
        elapsed_s = [*(float(step) for _ in x[:-1]), self._console.services.clock.now() - x[-1]]
        points = [point for of_arm in steps.values() for of_step in of_arm.values() for point in of_step.points]
        whole = ArmStep(points)
        failed, refused = (
            "none" if share is None else f"{share_text(share)} of all"
            for share in (whole.error_share, whole.refused_share)
        )
        return JsonResponse(
            {
                "requests": _rate_chart(
                    steps,
                    x,
                    elapsed_s,
                    f"{counted(whole.requests, 'request')} in {chosen.words}.",
                    lambda s: s.requests,
                ),
                "errors": _chart(steps, x, "share", f"Failed requests: {failed}.", lambda s: s.error_share),
                "refused": _chart(steps, x, "share", f"Declined with a 4xx: {refused}.", lambda s: s.refused_share),
                "latency": _chart(steps, x, "seconds", "95 % of the answers were faster than this.", lambda s: s.p95_s),
                "tokens": _rate_chart(
                    steps, x, elapsed_s, "Prompt and completion tokens together.", lambda s: s.tokens
                ),
                "quality": quality_chart(steps, x),
                "votes": vote_chart(steps, x),
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
