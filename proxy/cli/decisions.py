"""Asking the loop why: explain, history. The running server answers, or the store where none runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.vocabulary import action_label
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
from proxy.cli.printable import styled

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.config.model import Config
    from proxy.store.store import Store

    _FromStore = Callable[[Store], Coroutine[Any, Any, Any]]

__all__ = ["explain", "history"]

_READY_S = 10.0
"""So long a server that has only just started may take to open its store, before a question to it fails."""


def explain(
    at: Annotated[str | None, typer.Option(help="When: 2h (ago), 2026-01-31T12:00.", show_default="now")] = None,
    config: ConfigOption = None, data_dir: DataDirOption = None, admin_url: AdminUrlOption = None,
    token: TokenOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Explain the decision in force: what was decided, on which inputs, under which settings, and why."""
    loaded = read_config(config, data_dir)
    instant = _instant(at)
    path = "/api/explain" if instant is None else f"/api/explain?at={instant}"

    async def from_store(store: Store) -> Any:
        from proxy.loop.look.explain import explain as stored

        try:
            return await stored(store, instant)
        except LookupError as exc:
            fail(Exit.NOT_FOUND, str(exc))

    document = _ask(loaded, admin_url, token, path, from_store)
    if json:
        print_json(document)
    else:
        _print_decision(document, in_full=True)


def history(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only before: 2h (ago), 2026-01-31.", show_default=False)] = None,
    config: ConfigOption = None, data_dir: DataDirOption = None, admin_url: AdminUrlOption = None,
    token: TokenOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """List decisions with what came of them, newest first."""
    loaded = read_config(config, data_dir)
    instant = _instant(before)
    path = f"/api/history?limit={limit}" + ("" if instant is None else f"&before={instant}")

    async def from_store(store: Store) -> Any:
        from proxy.loop.look.explain import history as stored

        return {"entries": await stored(store, limit, instant)}

    entries = _ask(loaded, admin_url, token, path, from_store)["entries"]
    if json:
        print_json(entries)
        return
    for entry in entries:
        _print_decision(entry, in_full=False)
    if not entries:
        console().print("nothing has been decided yet")


def _ask(config: Config, admin_url: str | None, token: str | None, path: str, from_store: _FromStore) -> Any:
    """The answer of the running server, or of the store where none runs."""
    from proxy.cli.http import ServerError, admin_server
    from proxy.cli.stores import with_store

    server = admin_server(config, admin_url, token)
    try:
        return server.get_once_ready(path, _READY_S)
    except ServerError as exc:
        fail(Exit.NOT_FOUND if exc.status == 404 else Exit.FAILED, f"{server.url}: {exc}")
    except OSError as exc:
        if admin_url is not None:
            fail(Exit.UNREACHABLE, f"no server answers at {server.url} ({exc})")
    return with_store(config, from_store)


def _instant(text: str | None) -> float | None:
    from proxy.clock import SystemClock
    from proxy.web.documents import parse_instant

    if text is None:
        return None
    try:
        return parse_instant(text, SystemClock().now())
    except ValueError as exc:
        fail(Exit.USAGE, str(exc))


def _print_decision(entry: dict[str, Any], *, in_full: bool) -> None:
    from proxy.web.documents import iso

    out = console()
    when = iso(int(entry["at"] * 1e6))[:19].replace("T", " ")
    state = "" if entry["state"] == "done" else f" ({entry['state']})"
    phase = entry.get("phase") or {}
    moved = f"  {phase['from']} → {phase['to']}" if phase else ""
    out.print(
        styled(
            f"{when} UTC  ", (action_label(entry["action"]), "bold"), (state, "yellow"), f"{moved}  by {entry['who']}"
        )
    )
    reasons = entry.get("reasons") or [entry["why"]]
    for reason in reasons if in_full else reasons[:1]:
        out.print(f"    · {reason}")
    if in_full:
        for name in ("run_id", "experiment_id", "config_id"):
            if entry.get(name) is not None:
                out.print(f"    {name.replace('_', ' ')}: {entry[name]}")
        _print_evidence(out, entry.get("inputs") or {})
        _print_past_saving(out, entry)
        out.print("    (`--json` shows every input of the decision)", style="dim")


def _print_evidence(out: Console, inputs: Mapping[str, Any]) -> None:
    """The stages of the test, or the watch, as the decision saw them; what an earlier version kept may lack them."""
    from policies.assessment import NextStage, StageResult, Verdict
    from proxy.cli.status import print_stages, print_watch
    from proxy.loop.codec import from_json
    from proxy.status import watch_of_decision

    seen = inputs.get("assessment") or {}
    following = seen.get("next_stage") if seen.get("verdict") == Verdict.CONTINUE else None
    with suppress(ValueError):  # another version's: `--json` has it as it is
        stages = [from_json(StageResult, stage) for stage in seen.get("stages", ())]
        print_stages(out, stages, following and from_json(NextStage, following))
    print_watch(out, watch_of_decision(inputs))


def _print_past_saving(out: Console, entry: Mapping[str, Any]) -> None:
    """What taking the users' past off saves here, or would; None on the way of a server of an earlier version."""
    from policies.cuped import PastSaving

    if (found := entry.get("past_saving")) is not None:
        on = bool(((entry.get("inputs") or {}).get("rules") or {}).get("ab_test", {}).get("cuped"))
        out.print(f"    {PastSaving(**found).in_words(on=on)}")
