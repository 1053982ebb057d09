"""`ratchet loop`: the learning loop alone, over a usage database that an application writes. No proxy in front.

The quick start's command: `ratchet loop`, `ratchet loop --status`, `ratchet loop --trigger --no-train`, with its
config.json. Where a server runs on the same data directory the loop is already running inside it: status and trigger
then go there.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies import wording
from policies.vocabulary import VERDICTS, trigger_label
from proxy.callables import imported
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, say
from proxy.cli.control import WAIT_S, Wait, Where, submit
from proxy.cli.http import running_address
from proxy.cli.printable import styled
from proxy.cli.status import status as server_status
from proxy.errors import ConfigError
from proxy.private import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.config import Config, LoopConfig
    from proxy.loop.library.loop import ContinuousLearningLoop

__all__ = ["app"]

app = typer.Typer(help="Run the learning loop over a usage database, without the proxy.")

Database = Annotated[
    str | None, typer.Option("--db", help="Usage database (db_path).", show_default="ratchet.db in the data directory")
]
NoTrain = Annotated[bool, typer.Option("--no-train", help="Prepare the data and stop there.")]
MaxIterations = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many checks.", show_default="until interrupted")
]
Why = Annotated[str, typer.Option(help="The reason; it is kept with the decision.")]
_POLL_S = 0.2


@app.callback(invoke_without_command=True)
def loop(
    context: typer.Context, config: ConfigOption = None, data_dir: DataDirOption = None, db: Database = None,
    status: Annotated[bool, typer.Option("--status", help="As `ratchet loop status`.")] = False,
    trigger: Annotated[bool, typer.Option("--trigger", help="As `ratchet loop trigger`.")] = False,
    no_train: NoTrain = False, max_iterations: MaxIterations = None, wait: Wait = WAIT_S, json: JsonOption = False,
) -> None:  # fmt: skip
    """Check the triggers every `check_interval_seconds` and do what is due; without a verb, as `run`."""
    if context.invoked_subcommand is not None:
        return
    if status:
        show(config, data_dir, db, json)
    elif trigger:
        retrain(config, data_dir, db, no_train, wait=wait, json=json)
    else:
        run(config, data_dir, db, no_train, max_iterations, json)


@app.command()
def run(
    config: ConfigOption = None, data_dir: DataDirOption = None, db: Database = None, no_train: NoTrain = False,
    max_iterations: MaxIterations = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Check the triggers, now and every `check_interval_seconds`, and do what is due, until interrupted."""
    import signal

    from proxy.loop.library.loop import ContinuousLearningLoop

    class Told(ContinuousLearningLoop):
        def run_iteration(self, train_fn: Callable[[str], Any] | None = None) -> dict[str, Any]:
            result = super().run_iteration(train_fn)
            _print_result(result, json=json)
            return result

    settings, service = _settings(config, data_dir, db)
    _refuse_beside_server(service, db)
    train = None if no_train else _train_function(service)
    _begin(settings, trains=no_train or train is not None, for_ever=max_iterations is None)
    with Told(settings) as engine:
        earlier = signal.signal(signal.SIGTERM, lambda *_: engine.stop())
        try:
            engine.run_loop(train, max_iterations)
        except KeyboardInterrupt:
            engine.stop()
        finally:
            signal.signal(signal.SIGTERM, earlier)


@app.command("status")
def show(
    config: ConfigOption = None, data_dir: DataDirOption = None, db: Database = None, json: JsonOption = False
) -> None:
    """Show usage, triggers, models and the next step."""
    from proxy.loop.library.loop import ContinuousLearningLoop

    settings, service = _settings(config, data_dir, db)
    if db is None and running_address(service, "admin") is not None:
        server_status(config, data_dir, json=json)
        return
    if not Path(settings.db_path).expanduser().is_file():
        fail(Exit.UNREACHABLE, f"{settings.db_path}: no usage database there; log something first, or give --db")
    with ContinuousLearningLoop(settings) as engine:
        summary = engine.get_status_summary()
    if json:
        print_json(summary)
    else:
        _print_summary(summary, settings.db_path)


@app.command("trigger")
def retrain(
    config: ConfigOption = None, data_dir: DataDirOption = None, db: Database = None, no_train: NoTrain = False,
    why: Why = "asked for on the command line", wait: Wait = WAIT_S, json: JsonOption = False,
) -> None:  # fmt: skip
    """Retrain now, whatever the triggers say; with `--no-train` only prepare the data. Says whether the command was
    taken; where another process runs the loop it waits for that."""
    from proxy.loop.library.loop import ContinuousLearningLoop

    settings, service = _settings(config, data_dir, db)
    if db is None and running_address(service, "admin") is not None:
        submit("trigger", {"no_train": True} if no_train else {}, why, Where(config, data_dir), wait_s=wait, json=json)
        return
    train = None if no_train else _train_function(service)
    with ContinuousLearningLoop(settings) as engine:
        result = engine.trigger(train, no_train=no_train, who=getpass.getuser(), why=why)
        result["command"] = _settled(engine, result["command"], wait)
    command = result["command"]
    if json:
        print_json(result)
    elif command["state"] == "pending":
        say(
            f"trigger is queued as command {command['id']}: another process runs the loop on this database, and has "
            "not answered yet (`ratchet loop status`)"
        )
    else:
        taken = "was taken" if command["state"] == "done" else "was refused"
        say(f"trigger {taken} (command {command['id']}): {command['detail'] or 'done'}")
        _print_result(result, json=False)
    prepared = (result["retrain"] or {}).get("status") in ("completed", "data_prepared")
    if command["state"] == "refused" or (result["leader"] and command["state"] == "done" and not prepared):
        raise typer.Exit(int(Exit.FAILED))


def _settled(engine: ContinuousLearningLoop, command: dict[str, Any], wait_s: float) -> dict[str, Any]:
    """The command once a loop has answered it, or as it stands after `wait_s` seconds."""
    import time

    ends = time.monotonic() + wait_s
    while command["state"] == "pending" and time.monotonic() < ends:
        time.sleep(_POLL_S)
        command = engine.command_state(command["id"])
    return command


def _settings(path: Path | None, data_dir: str | None, db: str | None) -> tuple[LoopConfig, Config]:
    """The library's settings and the service's, from one file: the library's own keys are taken out first."""
    from proxy.app.paths import DataDir
    from proxy.config import LoopConfig, LoopSettings
    from proxy.config.load import load_document, parse_as, read_document

    own = {field.name for field in fields(LoopConfig)} - {field.name for field in fields(LoopSettings)}
    try:
        document = read_document(path) if path is not None else {}
        given = {name: document.pop(name) for name in own & document.keys()}
        service = load_document(
            document, {"server.data_dir": data_dir}, os.environ, source=str(path or "configuration")
        )
        data = DataDir.of(service)
        places = {
            "db_path": str(data.root / "ratchet.db"),
            "output_dir": str(data.training),
            "models_dir": str(data.models),
            "champion_name": service.champion.name,
        }
        library = parse_as(LoopConfig, places | given | ({"db_path": db} if db else {}), source=str(path))
    except ConfigError as exc:
        fail(Exit.CONFIG, str(exc))
    shared = {field.name: getattr(service, field.name) for field in fields(LoopSettings)}
    return replace(library, **shared), service


def _refuse_beside_server(service: Config, db: str | None) -> None:
    server = running_address(service, "admin") if db is None else None
    if server is not None:
        fail(
            Exit.FAILED, f"a server runs on this data directory ({server}), and its loop with it; see `ratchet status`"
        )


def _train_function(service: Config) -> Callable[[str], Any] | None:
    """The function that `trainer.callable` names, from the working directory or anything installed."""
    import sys

    trainer = service.trainer
    if trainer.kind == "none":
        return None
    if trainer.kind != "callable" or trainer.callable is None:
        fail(Exit.CONFIG, f"trainer.kind: {trainer.kind} needs `ratchet serve`; here, callable or none")
    sys.path.insert(0, os.getcwd())
    for setting in os.environ.keys() - without_secrets(os.environ).keys():  # they have been read; it runs in here
        del os.environ[setting]
    try:
        return imported(trainer.callable)
    except (ImportError, AttributeError) as exc:
        fail(Exit.CONFIG, f"trainer.callable: {trainer.callable} cannot be imported ({exc})")
    except TypeError as exc:
        fail(Exit.CONFIG, f"trainer.callable: {exc}")


def _begin(settings: LoopConfig, *, trains: bool, for_ever: bool) -> None:
    """Say which log this is about: an application may write another one. On stderr, beside the results."""
    place = Path(settings.db_path).expanduser().absolute()
    often = f", now and every {wording.span(settings.check_interval_seconds)}; Ctrl-C ends it" if for_ever else ""
    say(f"checks the usage database {place}{often}", err=True)
    if not place.is_file():
        say(f'nothing is logged there yet: log with UsageLogger("{place}"), or name another database (--db)', err=True)
    if not trains:
        say("trainer.callable is not set: a retrain prepares the data and trains nothing", err=True)


def _print_result(result: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(result)
        return
    retrained, said = result["retrain"], []
    if retrained:
        shown = {"completed": "model", "data_prepared": "data_path"}.get(retrained["status"], "reason")
        status = retrained["status"].replace("_", " ")
        said.append(
            f"retrain ({trigger_label(retrained['trigger'])}): {status}, {retrained.get(shown) or ''}".rstrip(", ")
        )
    events = ("challenger_deployed", "champion_promoted", "rolled_back")
    said += [f"{name.replace('_', ' ')}: {result[name]}" for name in events if result.get(name)]
    update = result.get("ab_test_update")
    if update:
        why = f" ({update['reasons'][0]})" if update["reasons"] else ""
        said.append(f"verdict of the test so far: {VERDICTS[update['verdict']]}{why}")
    say(f"{_when(result['timestamp'])}  {'; '.join(said) or 'nothing to do'}")


def _when(iso: str) -> str:
    return f"{iso[:19].replace('T', ' ')} UTC"


def _print_summary(summary: dict[str, Any], database: str) -> None:
    import msgspec

    from policies.triggers import TriggerProgress
    from proxy.cli.status import print_next, print_triggers
    from proxy.status import NextStatus

    status, usage = summary["status"], summary["usage_stats"]
    out = console()
    paused = " (paused)" if status["paused"] else ""
    out.print(styled((status["phase"], "bold"), f"{paused}: {status['reason']}"))
    out.print(f"  champion   {status['champion_model']}")
    if status["challenger_model"]:
        out.print(f"  challenger {status['challenger_model']}")
    out.print(f"  database   {Path(database).expanduser().absolute()}", soft_wrap=True)
    quality = "–" if usage["avg_quality_score"] is None else wording.score(usage["avg_quality_score"])
    calls, voted = wording.counted(usage["total"], "call"), wording.percent(usage["feedback_rate"])
    out.print(f"usage: {calls}, {voted} with feedback, average quality {quality}")
    last = status["last_retrain"]
    out.print(f"retrains: {status['total_retrains']}, last {_when(last) if last else 'never'}")
    print_next(out, msgspec.convert(summary["next"], NextStatus | None))
    print_triggers(out, msgspec.convert(summary["triggers"], tuple[TriggerProgress, ...]))
    if status["hint"]:
        out.print(f"hint: {status['hint']}", style="yellow")
    for error in status["errors"]:
        out.print(f"error: {error}", style="red")
