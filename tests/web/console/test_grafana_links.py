"""Links from what is looked at to the Grafana dashboards of the same time."""

import json
import re
from pathlib import Path

from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import request

DASHBOARDS = Path(__file__).parents[3] / "dashboards" / "grafana"
LINK = re.compile(r'href="(https://grafana\.example/[^"]+)"')


def links(admin: Admin, path: str) -> list[str]:
    return LINK.findall(request(admin.url, path).body.decode())


def test_each_page_links_to_the_dashboard_of_the_same_time(tmp_path: Path) -> None:
    with Admin(ConsoleStage(tmp_path, hours=12, grafana="https://grafana.example/g/")) as admin:
        started_ms = round(request(admin.url, "/status").json()["experiment"]["started_at"] * 1000)
        assert links(admin, "/") == ["https://grafana.example/g/d/ratchet-traffic?from=now-900s&amp;to=now"]
        assert links(admin, "/traffic?range=6h") == [
            "https://grafana.example/g/d/ratchet-traffic?from=now-6h&amp;to=now"
        ]
        assert links(admin, "/experiment") == [
            f"https://grafana.example/g/d/ratchet-experiment?from={started_ms}&amp;to=now"
        ]
    for name in ("traffic", "experiment"):
        assert json.loads((DASHBOARDS / f"{name}.json").read_text())["uid"] == f"ratchet-{name}"


def test_without_a_grafana_there_is_no_link(admin: Admin) -> None:
    for path in ("/", "/traffic", "/experiment"):
        assert "Grafana" not in request(admin.url, path).body.decode()
