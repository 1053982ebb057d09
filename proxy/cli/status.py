"""`ratchet status`: what the loop is doing, what it waits for, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from policies.vocabulary import VERDICTS
from proxy.cli.common import (
    AdminUrlOption,
    ConfigOption,
    DataDirOption,
    JsonOption,
    TokenOption,
    console,
    print_json,
    read_config,
)
from proxy.cli.http import admin_server, ask
from proxy.cli.printable import plain, styled

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_next", "print_status", "print_triggers", "status"]


def status(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    admin_url: AdminUrlOption = None,
    token: TokenOption = None,
    json: JsonOption = False,
) -> None:
    """Show phase, next action and why, progress of every trigger, and the running experiment.

    The same document as GET /status on the admin port, and as the metrics: one snapshot, three readers.
    """
    document = ask(admin_server(read_config(config, data_dir), admin_url, token), "/status")
    if json:
        print_json(document)
    else:
        print_status(document)


def print_status(document: dict[str, Any]) -> None:
    """The status document for people. What is missing in it is left out, so that it works while the store is away."""
    out = console()
    _print_champion(out, document)
    for about, trouble in (document.get("troubles") or {}).items():
        if about == "champion":
            continue
        since = _time(trouble["since"])
        out.print(styled((f"trouble ({about}): ", "bold red"), f"{trouble['sentence']} (since {since})"))
    phase = document.get("phase") or {}
    if phase:
        paused = " (paused)" if phase.get("paused") else ""
        since = f" since {_time(phase['since'])}" if phase.get("since") else ""  # none while the controller starts
        out.print(styled((phase["name"], "bold"), (paused, "yellow"), f"{since}: {phase['reason']}"))
    for name in ("champion", "challenger", "previous"):
        model = document.get(name)
        if model:
            health = {True: "healthy", False: "not healthy", None: "not asked"}[model.get("healthy")]
            colour = "red" if model.get("healthy") is False else ""
            out.print(styled(f"  {name:<11}{model['name']} (", (health, colour), ")"))
    print_next(out, document.get("next") or {})
    _print_run(out, document.get("run"))
    _print_retries(out, document.get("retries") or ())
    print_triggers(out, document.get("triggers") or {})
    _print_experiment(out, document.get("experiment"))
    _print_replicas(out, document.get("replicas") or ())
    for note in [*document.get("notes", ()), *([document["problem"]] if document.get("problem") else ())]:
        out.print(f"note: {note}", style="yellow")


def _print_champion(out: Console, document: dict[str, Any]) -> None:
    """How the champion is, by its own traffic: what whoever looks wants to know first."""
    champion = document.get("champion") or {}
    trouble = (document.get("troubles") or {}).get("champion")
    name = f"champion {champion.get('name', '')}".replace("champion champion", "champion").rstrip()
    if trouble:
        since = f" (since {_time(trouble['since'])}{_seen_by(document, champion)})"
        out.print(styled((f"{name} is not healthy: ", "bold red"), f"{trouble['sentence']}{since}"))
    elif champion.get("requests"):
        failed = round(champion["failed_share"] * champion["requests"])
        seen_by = _seen_by(document, champion)
        out.print(f"{name} answers: {failed:,} of {champion['requests']:,} requests failed in the last minute{seen_by}")


def _seen_by(document: dict[str, Any], champion: dict[str, Any]) -> str:
    """Whose view it is, where there are several."""
    return f", as {champion['seen_by']} sees it" if document.get("replicas") and champion.get("seen_by") else ""


def print_next(out: Console, plan: dict[str, Any]) -> None:
    """What the loop does next or waits for, and why: `next` of the status document."""
    action, held = plan.get("action"), plan.get("held")
    if action:
        out.print(styled("next: ", (action["action"], "bold")))
    elif held:
        out.print(styled("waiting to do: ", (held["action"], "bold")))
    for reason in plan.get("reasons", ()):
        out.print(f"  · {reason}")
    if plan.get("wake_at"):
        out.print(f"  looks again at {_time(plan['wake_at'])}")


def _print_run(out: Console, run: dict[str, Any] | None) -> None:
    if run:
        progress = "" if run.get("progress") is None else f" {run['progress']:.0%}"
        out.print(f"run {run['id']} ({run['trigger']}): {run['status']}{progress} {run.get('message') or ''}")


def _print_retries(out: Console, retries: Sequence[dict[str, Any]]) -> None:
    """What could not be done, each for itself."""
    for retry in retries:
        about = f" ({retry['about']})" if retry.get("about") else ""
        times = "once" if retry["attempts"] == 1 else f"{retry['attempts']} times"
        tried = f"could not be done {times}, next at {_time(retry['at'])}: {retry['reason']}"
        out.print(styled((f"{retry['action']}{about} ", "yellow"), tried))


def print_triggers(out: Console, triggers: dict[str, Any]) -> None:
    """How near each trigger is: `triggers` of the status document."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    rows = triggers.get("progress") or ()
    if not rows:
        return
    table = Table("trigger", "", "now", "due at", "", box=None, header_style="bold")
    for row in rows:
        bar = ProgressBar(total=1.0, completed=min(1.0, row["fraction"] or 0.0), width=20) if row["enabled"] else "off"
        table.add_row(row["name"], bar, _figure(row["value"]), _figure(row["target"]), row["reason"])
    out.print(table)
    if triggers.get("hold"):
        out.print(f"  held: {triggers['hold']}")


def _print_experiment(out: Console, experiment: dict[str, Any] | None) -> None:
    if not experiment:
        return
    share, since = 100 * experiment["share"], _time(experiment["started_at"])
    out.print(f"experiment {experiment['id']}: {share:g} % of the users since {since}")
    assessment = experiment.get("assessment")
    if assessment:
        out.print(styled("  verdict so far: ", (VERDICTS.get(assessment["verdict"], assessment["verdict"]), "bold")))
        for reason in assessment.get("reasons", ()):
            out.print(f"  · {reason}")


def _print_replicas(out: Console, replicas: Sequence[dict[str, Any]]) -> None:
    """Who shares the database, where several can."""
    if not replicas:
        return
    from rich.table import Table

    table = Table("replica", "", "version", "seen", "routes", "behind", box=None, header_style="bold")
    for row in replicas:
        role = "leads" if row["leader"] and row["alive"] else "follows" if row["alive"] else plain("gone", "red")
        age, routes = _figure(row["seen_s_ago"]), _figure(row["routes_version"])
        table.add_row(
            f"{row['host']} {row['id']}", role, row["version"], f"{age} s ago", routes, f"{row['lag_s']:.1f} s"
        )
    out.print(table)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _time(at: float | None) -> str:
    if at is None:
        return "?"
    from proxy.web.documents import iso

    return iso(int(at * 1e6))[:19].replace("T", " ") + " UTC"
