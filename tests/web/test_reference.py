"""docs/reference/http.md names every URL, filter, order and vote field that there is."""

import json
import re
from pathlib import Path

import pytest
from starlette.routing import Route

from proxy.metrics.shared import SharedCounters
from proxy.spool import SpoolWriter
from proxy.web.admin import VERBS, AdminServices, create_admin_app
from proxy.web.documents import FILTERS
from proxy.web.public import FEEDBACK_COUNTERS, create_public_app
from proxy.web.votes import parse_votes
from tests.harness.install import Install

PAGE = (Path(__file__).parents[2] / "docs/reference/http.md").read_text(encoding="utf-8")


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path)


def test_every_url_is_documented(install: Install) -> None:
    async def status() -> dict[str, str]:
        return {}

    spool = SpoolWriter(install.root / "spool", install.config.spool)
    counters = SharedCounters(install.root / "stats", FEEDBACK_COUNTERS)
    services = AdminServices(
        config=install.config,
        clock=install.clock,
        keys=install.keys,
        metrics=lambda accept: (b"", ""),
        status=status,
        health=dict,
        store=lambda: None,
    )
    apps = [create_public_app(install.config, spool, install.ids, counters, install.clock), create_admin_app(services)]
    spool.close()
    counters.close()
    for app in apps:
        for route in app.routes:
            assert isinstance(route, Route)
            path = re.sub(r":\w+", "", route.path)  # which kind of text stands in a place is not for the page
            for method in (route.methods or set()) - {"HEAD"}:
                assert f"`{method} {path}" in PAGE, (method, route.path)


def test_every_filter_and_order_is_documented() -> None:
    for name in (*FILTERS, *VERBS):
        assert f"`{name}`" in PAGE, name


def test_the_vote_shown_is_one() -> None:
    shown = PAGE.partition("### `POST /-/feedback`")[2].partition("```json")[2].partition("```")[0]
    [vote] = parse_votes(json.loads(shown), 1)
    for field in ("record_id", "source", "tags", *vote.says):
        assert f"| `{field}` |" in PAGE, field
