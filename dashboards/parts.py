"""What the dashboards share: a page with its variables, rows that ask one question, panels, queries.

Every query is limited to the chosen instances by `$M`: it stands for the label matcher, so that an expression here
reads as one would write it. The loop's numbers come from one decision that every replica reports, so they are maxima;
traffic is each replica's own, so it is summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    FieldColor,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

from policies.records import Outcome

__all__ = [
    "Query",
    "bars",
    "board",
    "failures_of",
    "graph",
    "level",
    "number",
    "open_breakers",
    "rate",
    "refusals_of",
    "row",
    "states",
]

Query = tuple[str, str]
"""(PromQL, legend)."""
Steps = Sequence[tuple[float | None, str]]
AnyPanel = timeseries.Panel | stat.Panel | bargauge.Panel | statetimeline.Panel
Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, bargauge.Panel, statetimeline.Panel)

MATCHER = 'instance=~"$instance"'
SOURCE = DataSourceRef(type_val="prometheus", uid="${DS_PROMETHEUS}")
GREEN: Steps = ((None, "green"),)
_BESIDE = 5


def board(name: str, description: str) -> Dashboard:
    """An empty dashboard with its variables and links to the other two."""
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        Dashboard(f"Ratchet: {name}")
        .uid(f"ratchet-{name}")
        .description(description)
        .tags(["ratchet"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(DashboardLink("Ratchet").type(DashboardLinkType.DASHBOARDS).tags(["ratchet"]).keep_time(True))
        .with_variable(DatasourceVariable("DS_PROMETHEUS").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("instance")
            .label("Instance")
            .datasource(SOURCE)
            .query("label_values(ratchet_build_info, instance)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".+")
            .current(everything)
        )
    )


def row(page: Dashboard, question: str, *panels: AnyPanel) -> Dashboard:
    """Add a row that answers `question`; what does not fit beside each other gets two lines."""
    page.with_row(Row(question))
    beside = len(panels) if len(panels) <= _BESIDE else -(-len(panels) // 2)
    for panel in panels:
        page.with_panel(panel.span(24 // beside))
    return page


def graph(title: str, why: str, unit: str, *queries: Query, limits: Steps = GREEN, stacked: bool = False,
          top: float | None = None) -> timeseries.Panel:  # fmt: skip
    """Lines over time; `limits` are drawn as dashed lines, `top` fixes the axis."""
    panel = (
        timeseries.Panel()
        .height(8)
        .fill_opacity(20 if stacked else 8)
        .line_width(2)
        .show_points("never")  # type: ignore[arg-type]
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode("normal"))  # type: ignore[arg-type]
    if len(limits) > 1:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    if top is not None:
        panel.min(0).max(top)
    return _filled(panel, title, why, unit, queries, limits)


def number(title: str, why: str, unit: str, *queries: Query, limits: Steps = GREEN) -> stat.Panel:
    """The present value, large."""
    panel = stat.Panel().height(8).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if len(queries) == 1 and not queries[0][1]:
        panel.graph_mode("area")  # type: ignore[arg-type]
    else:
        panel.text_mode("value_and_name")  # type: ignore[arg-type]
    return _filled(panel, title, why, unit, queries, limits)


def open_breakers() -> stat.Panel:
    """Whether anybody is kept from the challenger or the control."""
    return number(
        "Open breakers",
        "Workers that currently send no requests to the challenger, or to the control.",
        "short",
        ("sum (ratchet_gateway_breaker_open{$M})", ""),
        limits=((None, "green"), (1, "red")),
    )


def bars(title: str, why: str, unit: str, *queries: Query, limits: Steps = GREEN) -> bargauge.Panel:
    """Present values beside each other, on a scale from 0 to 1."""
    panel = bargauge.Panel().height(8).min(0).max(1)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).orientation("horizontal")  # type: ignore[arg-type]
    return _filled(panel, title, why, unit, queries, limits)


def states(title: str, why: str, query: Query) -> statetimeline.Panel:
    """Which of several states held when: a band for each series that is 1."""
    panel = (
        statetimeline.Panel()
        .height(8)
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .show_value(VisibilityMode.NEVER)
        .merge_values(True)
    )
    return _filled(panel, title, why, "none", [query], ((None, "transparent"), (1, "blue")))


def rate(metric: str, by: str = "", matchers: str = "") -> str:
    """Events per second of a counter, summed over replicas."""
    selector = ",".join(part for part in ("$M", matchers) if part)
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{selector}}}[$__rate_interval]))"


def level(metric: str, by: str = "", matchers: str = "") -> str:
    """A value that every replica reports the same."""
    selector = ",".join(part for part in ("$M", matchers) if part)
    return f"max{f' by ({by})' if by else ''} ({metric}{{{selector}}})"


def failures_of(metric: str) -> str:
    """Share of requests per arm that got no answer by the model's fault. 0 where all did."""
    return _share_of(metric, [outcome for outcome in Outcome if outcome.failed])


def refusals_of(metric: str) -> str:
    """Share of requests per arm that were declined with a 4xx. 0 where none was."""
    return _share_of(metric, [outcome for outcome in Outcome if outcome.refused])


def _share_of(metric: str, outcomes: Sequence[Outcome]) -> str:
    asked = rate(metric, "arm")
    found = rate(metric, "arm", f'outcome=~"{"|".join(outcome.label for outcome in outcomes)}"')
    return f"({found} or {asked} * 0) / {asked}"


def _filled(panel: Panel, title: str, why: str, unit: str, queries: Sequence[Query], limits: Steps) -> Panel:
    steps = [Threshold(value=value, color=color) for value, color in limits]
    panel.title(title).description(why).unit(unit).datasource(SOURCE)
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for index, (expression, legend) in enumerate(queries):
        query = (
            prometheus.Dataquery().expr(expression.replace("$M", MATCHER)).ref_id("ABCDEFGH"[index]).datasource(SOURCE)
        )
        panel.with_target(query.legend_format(legend or "__auto"))
    return panel
