"""The console: pages on the admin port for the person on call, and for whoever asks "why was it not promoted?".

Server-rendered HTML (Jinja2) that htmx refreshes while somebody looks at it, charts by uPlot, nothing from anywhere
else: it works without the internet under a strict Content-Security-Policy. Pages only read, and only what an index or
the sums per minute and hour can answer; actions go the way of `POST /api/commands`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proxy.web.admin import AdminServices
from proxy.web.auth import Sessions
from proxy.web.console.actions import action_routes
from proxy.web.console.assets import PREFIX, asset_route
from proxy.web.console.checks import check_routes
from proxy.web.console.datasets import dataset_routes
from proxy.web.console.experiment import experiment_routes
from proxy.web.console.glossary import glossary_routes
from proxy.web.console.history import history_routes
from proxy.web.console.judge import judge_routes
from proxy.web.console.now import now_routes
from proxy.web.console.page import Console
from proxy.web.console.pending import PendingVotes
from proxy.web.console.records import record_routes
from proxy.web.console.runs import run_routes
from proxy.web.console.settings import setting_routes
from proxy.web.console.side_by_side import side_by_side_routes
from proxy.web.console.situation import situation_routes
from proxy.web.console.traffic import traffic_routes
from proxy.web.console.voting import voting_routes

__all__ = ["with_console"]

_LOGIN = "/login"


def with_console(services: AdminServices, training_dir: Path) -> AdminServices:
    """`services` with the console's pages; `training_dir` holds one directory per run, with its log."""
    token = services.config.admin.token
    sessions = Sessions(token, services.clock) if token else None
    console, pending = Console(services), PendingVotes(services.clock)
    routes = [
        *now_routes(console),
        *experiment_routes(console),
        *check_routes(console),
        *side_by_side_routes(console),
        *traffic_routes(console),
        *record_routes(console, pending),
        *voting_routes(console, pending),
        *run_routes(console, training_dir),
        *dataset_routes(console, training_dir),
        *judge_routes(console),
        *history_routes(console),
        *situation_routes(console),
        *setting_routes(console),
        *glossary_routes(console),
        *action_routes(console, sessions, _LOGIN),
        asset_route(),
    ]
    return replace(services, console=routes, open_paths=(_LOGIN, PREFIX), login_path=_LOGIN)
