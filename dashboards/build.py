"""Write dashboards/grafana/*.json: `python -m dashboards.build`. A test holds that the files are what this writes."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import experiment, loop, traffic

__all__ = ["DASHBOARDS", "FOLDER", "main", "render"]

FOLDER = Path(__file__).parent / "grafana"
DASHBOARDS = {"traffic": traffic.dashboard, "experiment": experiment.dashboard, "loop": loop.dashboard}


def render(dashboard: Dashboard) -> str:
    """The dashboard as Grafana imports it."""
    built = dashboard.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False).encode(built) + "\n"


def main() -> None:
    """Write all of them."""
    for name, build in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(render(build()), encoding="utf-8")


if __name__ == "__main__":
    main()
