"""`ratchet check`: would this model pass the gate? For people, and for the CI of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.common import (
    ConfigOption,
    DataDirOption,
    Exit,
    JsonOption,
    console,
    fail,
    print_json,
    read_config,
    read_json,
    read_text,
    say,
)
from proxy.cli.serve import SetOption, parse_settings

if TYPE_CHECKING:
    from policies.gate import CheckReport
    from policies.rewrite import Rewrite
    from proxy.checks.alone import CheckedModel, Wanted
    from proxy.checks.ports import AskedModel
    from proxy.config.model import Config
    from proxy.credentials import CredentialFile
    from proxy.store.store import Store

__all__ = ["check"]


def check(
    challenger: Annotated[
        str, typer.Argument(help="Base URL of a model's server, or the name of a model in the store.")
    ],
    champion: Annotated[
        str | None,
        typer.Option(
            help="Whom to compare it with: a base URL, or a model's name. By default the champion.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="What the JSON `model` field of its requests says.", show_default=False)
    ] = None,
    champion_model: Annotated[str | None, typer.Option(help="The same for the champion's.", show_default=False)] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the bearer key of the challenger's server.", show_default=False)
    ] = None,
    rewrite: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with what is changed in its requests: a system prompt, parameters.", show_default=False
        ),
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help="Golden file (checks.golden), see docs/how-to/gate.md.", show_default=False)
    ] = None,
    replays: Annotated[
        int | None,
        typer.Option(help="Recorded conversations to ask at most (checks.replays); 0: none.", show_default=False),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the results to this file, as JUnit XML.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a model with the champion before anybody uses it: recorded conversations, and a golden file.

    The same gate as in the loop, by itself and in memory: nothing is written, no user sees the model, tool calls are
    compared and never run. Two URLs and a golden file suffice; with `--config` or `--data-dir` of an install the
    champion's recorded conversations are asked, too.

    The exit code is 0 where it passes, 1 where it is worse, and 6 where neither was shown or something was missing.
    """
    import asyncio
    import time

    overrides = {
        "checks.golden": None if golden is None else str(golden),
        "checks.replays": replays,
        **parse_settings(settings),
    }
    loaded = read_config(config, data_dir, overrides)
    endpoint = _Challenger(url=challenger, model=model, key_file=api_key_file, rewrite=rewrite)
    started = time.monotonic()
    done = asyncio.run(_check(loaded, endpoint, champion, champion_model))
    if junit is not None:
        _write_junit(junit, done, time.monotonic() - started)
    if json:
        print_json({**done.report.document(), "cases": _cases(done)})
    else:
        _show(done)
    raise typer.Exit(int(_exit_of(done.report)))


def _exit_of(report: CheckReport) -> Exit:
    from policies.gate import GateVerdict

    return {GateVerdict.PASS: Exit.OK, GateVerdict.REJECT: Exit.FAILED}.get(
        report.verdict or GateVerdict.HOLD, Exit.UNDECIDED
    )


class _UnknownModelError(Exception):
    """A name that is no model's."""


class _Challenger:
    """What the command line says of the challenger."""

    def __init__(self, *, url: str, model: str | None, key_file: Path | None, rewrite: Path | None) -> None:
        self.name = url
        self.model = model
        self.headers = {} if key_file is None else _key_of(key_file)
        self.rewrite = None if rewrite is None else _rewrite_of(rewrite)

    @property
    def is_url(self) -> bool:
        return self.name.startswith(("http://", "https://"))


def _key_of(path: Path) -> dict[str, str]:
    """The header with the key that is in the file."""
    from proxy.config import forms
    from proxy.config.serving import key_in_header

    key = read_text(path, "--api-key-file")
    if (wrong := forms.secret(key)) is not None:
        fail(Exit.USAGE, f"--api-key-file: {path} {wrong}")
    return dict((key_in_header("authorization", key),))


def _rewrite_of(path: Path) -> Rewrite:
    from policies.rewrite import Rewrite, RewriteError

    try:
        return Rewrite.of(read_json(path, "--rewrite"))
    except RewriteError as exc:
        fail(Exit.USAGE, f"--rewrite: {path}: {exc}")


async def _check(
    config: Config, challenger: _Challenger, champion: str | None, champion_model: str | None
) -> CheckedModel:
    from policies.rewrite import RewriteError
    from proxy.checks.alone import run_alone
    from proxy.clock import SystemClock
    from proxy.credentials import UnknownCredentialError
    from proxy.errors import ConfigError, PermanentError, TemporaryError
    from proxy.store.store import Store

    store = None
    try:
        if (url := _store_url(config)) is not None:
            store = await Store.open(url, clock=SystemClock(), pool_size=config.store.pool_size, upgrade=False)
        wanted = await _wanted(config, challenger, champion, champion_model, store)
        return await run_alone(config, wanted, SystemClock())
    except (ConfigError, UnknownCredentialError, RewriteError) as exc:
        fail(Exit.CONFIG, str(exc))
    except (TemporaryError, OSError) as exc:
        fail(Exit.UNREACHABLE, str(exc))
    except _UnknownModelError as exc:
        fail(Exit.NOT_FOUND, str(exc))
    except PermanentError as exc:
        fail(Exit.FAILED, str(exc))
    finally:
        if store is not None:
            await store.close()


def _store_url(config: Config) -> str | None:
    """Where the store is, where there is one."""
    from proxy.app.paths import DataDir

    data = DataDir.of(config)
    if config.store.url is None and not (data.root / "ratchet.db").is_file():
        return None
    return data.store_url(config)


async def _wanted(
    config: Config, challenger: _Challenger, champion: str | None, champion_model: str | None, store: Store | None
) -> Wanted:
    """Who is compared with whom. Raises _UnknownModelError, ConfigError, and
    UnknownCredentialError where a model's key is not on this host."""
    from policies.rows import ModelState
    from proxy.checks.alone import Wanted
    from proxy.checks.gate import endpoint_of

    credentials = _credentials(config)
    trained = None
    if challenger.is_url:
        asked = _endpoint(challenger.name, challenger, credentials)
    else:
        trained = None if store is None else await store.models.named(challenger.name)
        if trained is None:
            raise _UnknownModelError(f"{challenger.name} is neither a URL nor the name of a model in the store")
        asked = _with_options(endpoint_of(trained, credentials.header), challenger)
    logged = None
    if champion is None and store is not None:
        logged = next(reversed(await store.models.list([ModelState.CHAMPION])), None)
    if logged is not None:
        return Wanted(challenger=asked, champion=endpoint_of(logged, credentials.header), store=store, logged=logged,
                      trained=trained)  # fmt: skip
    other = champion or config.champion.url or None
    if other is not None and not other.startswith(("http://", "https://")):
        named = None if store is None else await store.models.named(other)
        if named is None:
            raise _UnknownModelError(f"{other} is neither a URL nor the name of a model in the store")
        return Wanted(challenger=asked, champion=endpoint_of(named, credentials.header), store=store, trained=trained)
    beside = _Challenger(url=other or "", model=champion_model or config.champion.model, key_file=None, rewrite=None)
    return Wanted(
        challenger=asked,
        champion=None if other is None else _endpoint(other, beside, credentials),
        store=store,
        trained=trained,
    )


def _credentials(config: Config) -> CredentialFile:
    from proxy.app.paths import DataDir
    from proxy.credentials import CredentialFile
    from proxy.errors import ConfigError

    found = CredentialFile(DataDir.of(config).credentials, config.champion)
    try:
        found.refresh()
    except ValueError as exc:
        raise ConfigError(str(exc)) from None
    return found


def _endpoint(url: str, said: _Challenger, credentials: CredentialFile) -> AskedModel:
    from proxy.checks.ports import AskedModel
    from proxy.config import forms
    from proxy.credentials import CHAMPION
    from proxy.errors import ConfigError

    if (wrong := forms.base_url(url)) is not None:
        raise ConfigError(wrong)
    header = credentials.header(CHAMPION, url)
    headers = said.headers or (dict((header,)) if header is not None else {})
    return AskedModel(name=url, url=url, model=said.model, headers=headers, rewrite=said.rewrite)


def _with_options(endpoint: AskedModel, said: _Challenger) -> AskedModel:
    """The model of the store, but for what the command line says otherwise."""
    from dataclasses import replace

    changes: dict[str, Any] = {"model": said.model, "headers": said.headers, "rewrite": said.rewrite}
    return replace(endpoint, **{name: value for name, value in changes.items() if value})


def _write_junit(path: Path, done: CheckedModel, seconds: float) -> None:
    from proxy.checks.junit import junit_xml

    try:
        path.write_bytes(junit_xml(done.report, done.cases, done.rows, seconds))
    except OSError as exc:
        fail(Exit.FAILED, f"--junit: {path} cannot be written ({exc.strerror or exc})")


def _cases(done: CheckedModel) -> list[dict[str, Any]]:
    """Of the golden file, each with what did not hold."""
    lines = () if done.cases is None else done.cases.lines
    found = []
    for line in lines:
        row = done.rows.get(line.item)
        golden = {} if row is None else row.facts["golden"]
        found.append(
            {
                "name": line.name,
                "tags": list(line.tags),
                "champion": golden.get("champion"),
                "challenger": golden.get("challenger"),
                "answer": None if row is None else row.data["challenger"]["text"],
            }
        )
    return found


def _show(done: CheckedModel) -> None:
    from rich.table import Table

    from policies.gate import GateVerdict
    from proxy.cli.printable import plain

    report = done.report
    verdict = report.verdict or GateVerdict.HOLD
    colours = {GateVerdict.PASS: typer.colors.GREEN, GateVerdict.REJECT: typer.colors.RED}
    say(f"{verdict.value}: {report.reasons[0]}", colour=colours.get(verdict, typer.colors.YELLOW))
    for reason in report.reasons[1:]:
        say(f"  {reason}")
    sides = ("champion", "challenger")
    names = sorted({name for side in sides for name in report.differences.get(side, {})})
    out = console()
    if names:
        table = Table("answers that are", *sides, title="What is seen of the answers", title_justify="left")
        for name in names:
            counts = [str(report.differences[side].get(name, 0)) for side in sides]
            table.add_row(plain(name.replace("_", " ")), *counts)
        out.print(table)
    if report.examples:
        table = Table("lost", "why", title="Examples", title_justify="left")
        for example in report.examples:
            table.add_row(plain(str(example.get("name", example["item"]))), plain(str(example["why"])))
        out.print(table)
