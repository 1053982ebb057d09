"""The dashboards are what the builder writes, say what they mean, and every query of every panel has data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import DASHBOARDS, FOLDER, render
from tests.dashboards.prometheus import Prometheus
from tests.dashboards.story import told

METRICS = (FOLDER.parents[1] / "docs/reference/metrics.md").read_text(encoding="utf-8")
NOT_SHOWN = {
    "ratchet_build_info": "the list of instances to choose from is made of it",
    "gen_ai_server_request_duration_seconds": "ratchet_request_duration_seconds by another name",
    "gen_ai_server_time_to_first_token_seconds": "ratchet_time_to_first_token_seconds by another name",
    "gen_ai_client_inference_operation_input_tokens": "ratchet_tokens_total by another name",
    "gen_ai_client_inference_operation_output_tokens": "ratchet_tokens_total by another name",
    "gen_ai_client_token_usage": "ratchet_tokens_total by another name",
    "ratchet_fallbacks_total": "ratchet_gateway_fallbacks_total says the same, with the cause",
    "ratchet_spool_writers": "what they have written and nobody has stored yet is shown; their number says nothing",
    "ratchet_ingest_duplicates_total": "a restart reads a part of the spool again: nothing is wrong, nothing is lost",
    "ratchet_ingest_deleted_total": "what was asked for, when a user was deleted",
    "ratchet_ingest_batches_total": "for whoever tunes the store: records per transaction",
}
"""Metrics without a panel, and why."""
MOMENTARY = {"Progress of the check", "Dataset that is prepared"}
"""Panels of what the story is done with in less than a second."""


def dashboard(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def queries(name: str) -> list[tuple[str, str]]:
    """(panel's title, PromQL with Grafana's variables filled in)."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".+"))
        for panel in panels(name)
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_file_is_what_the_builder_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == render(DASHBOARDS[name]()), (
        "run `python -m dashboards.build`"
    )


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafanas_schema_package_reads_it_back(name: str) -> None:
    read = Dashboard.from_json(dashboard(name))
    assert read.uid == f"ratchet-{name}"
    assert len(read.panels or []) == len(dashboard(name)["panels"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_explains_itself(name: str) -> None:
    seen = dashboard(name)
    assert len({panel["id"] for panel in seen["panels"]}) == len(seen["panels"])
    assert [variable["name"] for variable in seen["templating"]["list"]] == ["DS_PROMETHEUS", "instance"]
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}"
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], (panel["title"], target["expr"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_rows_are_questions(name: str) -> None:
    rows = [panel["title"] for panel in dashboard(name)["panels"] if panel["type"] == "row"]
    assert len(rows) >= 5
    assert all(title.endswith("?") for title in rows)


def test_every_metric_is_on_a_panel_or_deliberately_not() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram)", METRICS, re.MULTILINE))
    assert len(documented) > 100
    words = {word for name in DASHBOARDS for _, query in queries(name) for word in re.findall(r"\w+", query)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", word) if word not in documented else word for word in words}
    assert {name for name in shown if name.startswith("ratchet_")} <= documented
    assert documented - shown == NOT_SHOWN.keys(), "a new metric needs a panel, or a reason here"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with told(Path(tmp_path_factory.mktemp("story"))) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_has_data(seen: Prometheus, name: str) -> None:
    empty = [(title, query) for title, query in queries(name) if title not in MOMENTARY and not seen.values(query)]
    assert not empty, "\n".join(f"{title}: {query}" for title, query in empty)


@pytest.mark.slow
def test_what_is_shown_is_what_happened(seen: Prometheus) -> None:
    """Numbers that the story fixes, through the panels' own queries."""
    training = dict(queries("loop"))["Training"]
    assert set(seen.values(training)) == {0.25, 0.5, 0.75, 1.0}
    promoted = next(query for title, query in queries("loop") if title == "Outcomes" and "promotions" in query)
    assert seen.values(promoted)[-1] == 1
    share = next(query for title, query in queries("experiment") if title == "Share of users")
    assert set(seen.values(share)) == {0.25, 0.5}, "a canary of 20 of 80 users a day, then what is set"


@pytest.mark.slow
def test_the_rules_have_data_and_no_alarm_is_raised(seen: Prometheus) -> None:
    groups = seen.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert all(rule["health"] == "ok" for rule in rules), [rule for rule in rules if rule["health"] != "ok"]
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert recorded
    assert not [name for name in recorded if not seen.values(name)]
    firing = [alert["labels"]["alertname"] for alert in seen.get("alerts")["alerts"] if alert["state"] == "firing"]
    assert firing == []


@pytest.mark.slow
def test_every_metric_that_is_named_is_exported(seen: Prometheus) -> None:
    """An alert on a misspelt metric would never fire, and `or vector(0)` would hide one in a panel."""
    rules = [path.read_text(encoding="utf-8") for path in sorted((FOLDER.parent / "prometheus").glob("*.rules.yml"))]
    texts = rules + [query for name in DASHBOARDS for title, query in queries(name) if title not in MOMENTARY]
    named = {metric for text in texts for metric in re.findall(r"(?<![:\w])(ratchet_\w+)(?![:\w])", text)}
    declared = {metric.removesuffix("_total") for metric in seen.get("metadata")}
    absent = {name for name in named if re.sub(r"_(total|bucket|sum|count)$", "", name) not in declared}
    assert len(named) > 50
    assert not {name for name in absent if not seen.values(f"count({name})")}  # what is over is not declared any more
