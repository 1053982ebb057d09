"""Debian's Prometheus, scraping one install every second."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from tests.harness.programs import free_port
from tests.harness.require import need
from tests.harness.serve import await_true, request

__all__ = ["Prometheus", "prometheus"]

RULES = Path(__file__).parents[2] / "dashboards/prometheus"


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.started = time.time()

    def get(self, path: str, **params: object) -> Any:
        """`data` of an API call that succeeds."""
        answer = request(self.url, f"/api/v1/{path}?{urlencode(params)}").json()
        assert answer["status"] == "success", f"{params}: {answer}"
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """Every value that the expression has had since the start; NaN left out."""
        series = self.get("query_range", query=expression, start=self.started, end=time.time(), step=1)["result"]
        values = [float(value) for one in series for _, value in one["values"]]
        return [value for value in values if value == value]


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus with our rules, scraping `target` (a URL) as the job `ratchet`."""
    program = shutil.which("prometheus")
    need("prometheus", program is not None)
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [urlsplit(target).netloc]}]
    folder.mkdir()
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    argv = [str(program), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]  # fmt: skip
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        await_true(lambda: _ready(server.url), f"Prometheus ({folder / 'log.txt'})")
        yield server
    finally:
        process.terminate()
        process.wait(120)


def _ready(url: str) -> bool:
    try:
        return request(url, "/-/ready").status == 200
    except (OSError, HTTPException):
        return False
