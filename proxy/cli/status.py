"""`ratchet status`: what the loop is doing, what it waits for, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from policies import wording
from policies.assessment import Verdict
from policies.guardrails import GUARDRAILS, GuardrailState
from policies.vocabulary import VERDICTS, action_label, measure_label, trigger_label
from proxy.cli.common import (
    AdminUrlOption,
    ConfigOption,
    DataDirOption,
    Exit,
    JsonOption,
    TokenOption,
    console,
    fail,
    print_json,
    read_config,
)
from proxy.cli.http import admin_server, ask, running_address
from proxy.cli.ills import champion_line, ills
from proxy.cli.printable import plain, styled

if TYPE_CHECKING:
    from rich.console import Console

    from policies.assessment import NextStage, StageResult
    from policies.snapshot import ModelView, RunView
    from policies.triggers import TriggerProgress
    from proxy.status import (
        ExperimentStatus,
        NextStatus,
        ReplicaStatus,
        Status,
        TrafficStatus,
        WatchStatus,
    )

__all__ = ["print_next", "print_stages", "print_status", "print_triggers", "print_watch", "status"]


def status(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    admin_url: AdminUrlOption = None,
    token: TokenOption = None,
    json: JsonOption = False,
) -> None:
    """Show phase, next action and why, progress of every trigger, and the running experiment.

    The same document as GET /status on the admin port.
    """
    loaded = read_config(config, data_dir)
    document = ask(admin_server(loaded, admin_url, token), "/status")
    if json:
        print_json(document)
        return
    from proxy.status import read_status

    try:
        found = read_status(document)
    except ValueError as exc:
        fail(Exit.FAILED, f"{exc}; `--json` prints it as it is")
    print_status(found, None if admin_url else running_address(loaded, "public"))


def print_status(status: Status, base_url: str | None = None) -> None:
    """The status for people: what hurts, then how things stand. What is unknown is left out, so that it works while the
    store is away. `base_url`: where clients may send requests, if that is known."""
    out = console()
    for what, rest in ills(status, _time):
        out.print(styled((f"{what}: ", "bold red"), rest))
    if line := champion_line(status):
        out.print(line)
    phase = status.phase
    since = f" since {_time(phase.since)}" if phase.since else ""  # none while the controller starts
    paused = " (paused)" if phase.paused else ""
    out.print(styled((phase.name, "bold"), (paused, "yellow"), f"{since}: {phase.reason}"))
    models = {"champion": status.champion, "challenger": status.challenger, "previous": status.previous}
    _print_models(out, models)
    if _is_new(status):
        where = f" at {base_url}" if base_url else ""
        out.print(f"waiting for the first request{where}: nothing has been recorded yet")
    else:
        _print_loop(out, status)
    print_watch(out, status.watch)
    _print_replicas(out, status.replicas)
    for note in status.notes:
        out.print(f"note: {note}", style="yellow")


def _is_new(status: Status) -> bool:
    """Whether nothing has come in yet, so that all there is to say of triggers and data is nought, many times over."""
    facts = status.triggers.facts if status.triggers else None
    nothing = facts is not None and not any(
        (facts.new_quality_samples, facts.usable_samples, facts.positive_votes, facts.negative_votes,
         facts.last_retrain_at, facts.quality_baseline)
    )  # fmt: skip
    asked = (status.traffic is not None and status.traffic.requests) or (status.champion and status.champion.requests)
    return nothing and not asked and status.phase.name == "idle" and status.experiment is None


def _print_loop(out: Console, status: Status) -> None:
    """What the loop does and waits for, and what it goes by."""
    print_next(out, status.next)
    _print_run(out, status.run)
    _print_traffic(out, status.traffic)
    if status.triggers is not None:
        said = status.next is not None and status.triggers.hold in status.next.reasons
        print_triggers(out, status.triggers.progress, None if said else status.triggers.hold)
    if status.check is not None and status.check.progress is not None:
        out.print(f"check {status.check.id}: {wording.share(status.check.progress)} done")
    said_already = () if status.next is None else status.next.reasons
    _print_experiment(out, status.experiment, said_already)


def _print_models(out: Console, models: Mapping[str, ModelView | None]) -> None:
    for role, model in models.items():
        if model is not None:
            health = {True: "healthy", False: "not healthy", None: "not checked"}[model.healthy]
            out.print(styled(f"  {role:<11}{model.name} (", (health, "red" if model.healthy is False else ""), ")"))


def print_next(out: Console, plan: NextStatus | None) -> None:
    """What the loop does next or waits for, and why."""
    if plan is None:
        return
    if plan.action:
        out.print(styled("next: ", (action_label(plan.action.action), "bold")))
    elif plan.held:
        out.print(styled("next, but not yet: ", (action_label(plan.held.action), "bold")))
    for reason in plan.reasons:
        out.print(f"  · {reason}")
    if plan.wake_at:
        out.print(f"  next check at {_time(plan.wake_at)}")


def _print_run(out: Console, run: RunView | None) -> None:
    if run:
        progress = "" if run.progress is None else f" {wording.progress(run.progress)}"
        state = run.status.value.replace("_", " ")
        out.print(f"run {run.id} ({run.trigger}): {state}{progress} {run.message}".rstrip())


def _print_traffic(out: Console, traffic: TrafficStatus | None) -> None:
    """What became of the latest requests, in one line."""
    if traffic is None or not traffic.requests:
        return
    many = wording.many
    parts = [
        wording.counted(traffic.requests, "request"),
        f"{many(traffic.failed)} failed",
        f"{many(traffic.refused)} refused",
    ]
    if traffic.fallbacks:
        parts.append(f"{wording.many(traffic.fallbacks)} answered by the champion for another arm")
    parts.append(f"{wording.many(traffic.positive)} thumbs up, {wording.many(traffic.negative)} down")
    out.print(f"last {traffic.minutes} minutes: {', '.join(parts)}")


def print_triggers(out: Console, progress: Sequence[TriggerProgress], hold: str | None = None) -> None:
    """How near each trigger is, and why no retrain may start yet."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    if not progress:
        return
    table = Table("trigger", "", "now", "due at", "", box=None, header_style="bold")
    for row in progress:
        bar: Any = ProgressBar(total=1.0, completed=min(1.0, row.fraction), width=20) if row.enabled else "off"
        table.add_row(trigger_label(row.name), bar, _figure(row.value), _figure(row.target), row.reason)
    out.print(table)
    if hold:
        out.print(f"  no retrain yet: {hold}")


def _print_experiment(out: Console, experiment: ExperimentStatus | None, said: Sequence[str] = ()) -> None:
    """The test, and the verdict so far. Where an arm has had no request that is all there is to say; `said`: reasons
    that stand above already."""
    if not experiment:
        return
    share, since = wording.share(experiment.share), _time(experiment.epoch_started_at or experiment.started_at)
    out.print(f"experiment {experiment.id}: {share} of the users since {since}")
    found = experiment.assessment
    if found is None:
        return
    nothing = wording.nothing_yet(
        sum(stage.champion_requests for stage in found.stages), sum(stage.challenger_requests for stage in found.stages)
    )
    if nothing is not None and found.stages and found.verdict is Verdict.CONTINUE:
        if nothing not in said:
            out.print(f"  · {nothing}")
        return
    out.print(styled("  verdict so far: ", (VERDICTS[found.verdict], "bold")))
    out.print(f"  quality: {measure_label(found.quality)}")
    for reason in found.reasons:
        if reason not in said:
            out.print(f"  · {reason}")
    goes_on = found.verdict is Verdict.CONTINUE
    print_stages(out, found.stages, found.next_stage if goes_on else None)


def print_stages(out: Console, stages: Sequence[StageResult], following: NextStage | None) -> None:
    """Each stage of a test by itself; of a test with one share only, nothing that is not said already."""
    if len(stages) < 2 and following is None:
        return
    from rich.table import Table

    table = Table(
        "stage", "share", "since", "requests", "users", "gain", "bounds", "part", box=None, header_style="bold"
    )
    for number, one in enumerate(stages, 1):
        table.add_row(
            str(number),
            wording.share(one.share),
            _time(one.started_at),
            f"{wording.many(one.champion_requests)} / {wording.many(one.challenger_requests)}",
            f"{wording.many(one.champion_users)} / {wording.many(one.challenger_users)}",
            _change(one.theta),
            f"{_change(one.lower)} … {_change(one.upper)}",
            wording.share(one.part),
        )
    out.print(table)
    if following is not None:
        waits = "; ".join(following.waits) or "nothing"
        out.print(f"  next share: {wording.share(following.share)}, waits for: {waits}")


def print_watch(out: Console, watch: WatchStatus | None) -> None:
    """How a new champion does, and beside whom."""
    if watch is None:
        return
    old = "none of the old one"
    if watch.control_requests is not None:
        old = (
            f"{wording.many(watch.control_requests)} of the old one, "
            f"from the {wording.share(watch.holdback_share)} who stay on it"
        )
    left = wording.duration(watch.remaining_hours)
    part = f", part {watch.parts} of the watch" if watch.parts > 1 else ""
    out.print(f"watch: {left} to go{part}; {wording.many(watch.requests)} requests of the new champion, {old}")
    for rail in watch.guardrails:
        out.print(f"  · {GUARDRAILS[rail.name].words}: {_rail(rail.state, watch)}; {rail.reason}")


def _rail(state: GuardrailState, watch: WatchStatus) -> str:
    """What a guardrail says: that nothing was found is no proof that there is nothing."""
    if state is not GuardrailState.PASS:
        return state.value.replace("_", " ")
    users, requests = watch.users, watch.requests
    return wording.no_proof(requests, "requests") if users is None else wording.no_proof(users, "users")


def _change(value: float | None) -> str:
    return "–" if value is None else wording.signed_percent(value)


def _print_replicas(out: Console, replicas: Sequence[ReplicaStatus]) -> None:
    """Who shares the database, where several can."""
    if not replicas:
        return
    from rich.table import Table

    table = Table("replica", "", "version", "seen", "routes", "behind", box=None, header_style="bold")
    for row in replicas:
        role = "leads" if row.leader and row.alive else "follows" if row.alive else plain("gone", "red")
        age = "–" if row.seen_s_ago is None else wording.span(row.seen_s_ago)
        routes = "–" if row.routes_version is None else str(row.routes_version)
        table.add_row(f"{row.host} {row.id}", role, row.version, f"{age} ago", routes, wording.took(row.lag_s))
    out.print(table)


def _figure(value: float | None) -> str:
    """To three places, and never with an exponent: counts, shares, hours."""
    return "–" if value is None else wording.figure(value)


def _time(at: float | None) -> str:
    if at is None:
        return "?"
    from proxy.web.documents import iso

    return iso(int(at * 1e6))[:19].replace("T", " ") + " UTC"
