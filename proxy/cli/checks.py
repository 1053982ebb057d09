"""`ratchet check-config`: would this configuration start, and what does it change?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.cautions import certificate_ended, certificate_ends_soon, settings_file_open
from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, console, fail, print_json, read_config
from proxy.cli.printable import plain, styled
from proxy.cli.serve import ChampionOption, SetOption, parse_settings

if TYPE_CHECKING:
    from proxy.cli.connect import Attempt
    from proxy.config.model import Config

__all__ = ["check_config"]


def check_config(
    file: Annotated[
        str | None, typer.Argument(help="The file to check; the same as --config.", show_default=False)
    ] = None,
    champion: ChampionOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    settings: SetOption = None,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Also try the servers that it names: champion, store, judge, trainer, deployer, and others.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check the configuration as `serve` would and list what differs from the defaults.

    Prints all problems at once, each with its key, value, reason and remedy; the exit code is then 3. Also checks that
    the training function and the commands exist, opens the TLS files, and reads the golden file of the gate (`serve`
    only warns of some of these, and serves). With `--connect` one line for each server that is named; the exit code is
    4 where one is not there or does not let us in. A judge is asked one question; nobody is notified.
    """
    import os

    from proxy.config import fingerprint, public_document
    from proxy.config.load import old_names
    from proxy.config.variables import mistaken_variables

    source = Path(file) if file else config
    overrides = {"champion.url": champion, **parse_settings(settings)}
    loaded = read_config(source, data_dir, overrides)
    _refuse_what_cannot_work(loaded)
    changed = _changed(loaded)
    renamed = old_names(source, overrides, os.environ).items()
    notes = [
        *mistaken_variables(os.environ),
        *settings_file_open(source),
        *(f"{old} is now called {new}; the old name is still read" for old, new in renamed),
        *_notes(loaded),
    ]
    tried = _tried(loaded) if connect else []
    well = all(attempt.ok for attempt in tried)
    if json:
        connections = {"connections": [attempt.as_json() for attempt in tried]} if connect else {}
        print_json({"ok": well, "fingerprint": fingerprint(loaded), "changed": changed, "notes": notes, **connections,
                    "config": public_document(loaded)})  # fmt: skip
    else:
        _print_checked(fingerprint(loaded), changed, notes, tried)
    if not well:
        raise typer.Exit(int(Exit.UNREACHABLE))


def _refuse_what_cannot_work(config: Config) -> None:
    """What is sound in itself and names files, functions or kinds that do not do: all that can be told without asking
    anybody."""
    from proxy.app.paths import DataDir
    from proxy.checks.golden import golden_of
    from proxy.config.own_tls import try_certificates
    from proxy.config.programs import missing_programs, otlp_target
    from proxy.errors import ConfigError
    from proxy.judge.build import make_judge
    from proxy.loop.adapters.deployers import build_deployer
    from proxy.loop.adapters.trainers import build_trainer

    if missing := list(missing_programs(config)):
        fail(Exit.CONFIG, "\n  ".join(("the configuration names things that do not exist:", *map(str, missing))))
    try:
        try_certificates(config)
        golden_of(config)
        otlp_target(config.telemetry)
        make_judge(config.judge)
        build_trainer(config.trainer)
        build_deployer(config.deployer, DataDir.of(config).root)
    except ConfigError as exc:
        fail(Exit.CONFIG, str(exc))
    if sentence := certificate_ended(config):
        fail(Exit.CONFIG, sentence)


def _tried(config: Config) -> list[Attempt]:
    import asyncio

    from proxy.cli.connect import attempts

    return asyncio.run(attempts(config))


def _print_checked(mark: str, changed: dict[str, Any], notes: list[str], tried: list[Attempt]) -> None:
    from rich.table import Table

    from proxy.config.literal import show

    out = console()
    table = Table("setting", "value", title=f"Configuration {mark} is valid", title_justify="left")
    for path, value in changed.items():
        table.add_row(path, show(value))
    if not changed:
        table.add_row(plain("all settings at their defaults", "dim"), "")
    out.print(table)
    for note in notes:
        out.print(f"note: {note}")
    for attempt in tried:
        state = ("works", "green") if attempt.ok else ("FAILS", "bold red")
        out.print(styled(f"{attempt.setting}: ", state, f", {attempt.said}"))


def _changed(config: Config) -> dict[str, Any]:
    """Settings that are not at their default, secrets masked."""
    from proxy.config import Config, public_document
    from proxy.config.parse import keys

    def at(document: Any, path: str) -> Any:
        for part in path.split("."):
            document = document[part]
        return document

    ours, defaults = public_document(config), public_document(Config())
    paths = [key.path for key in keys(Config)]
    return {path: at(ours, path) for path in paths if at(ours, path) != at(defaults, path)}


def _notes(config: Config) -> list[str]:
    """What is allowed, but may not be what was meant."""
    from proxy.app.paths import open_to_others
    from proxy.config.checks import is_loopback, weak_tokens
    from proxy.config.family import judge_notes
    from proxy.config.terms import terms_note

    notes = [*map(str, weak_tokens(config)), *open_to_others(config), *certificate_ends_soon(config)]
    if not config.champion.url:
        notes.append("champion.url is not set: set it, or start `ratchet serve` with --champion")
    if config.trainer.kind == "none":
        notes.append("trainer.kind is none: the loop only prepares training data")
    if config.capture.enabled is False:
        notes.append("capture.enabled is false: without bodies nothing can be trained on")
    if config.telemetry.otlp_endpoint is not None and config.telemetry.otlp_content:
        notes.append("telemetry.otlp_content is true: what users said is sent to telemetry.otlp_endpoint")
    if config.spool.fsync == "never":
        notes.append("spool.fsync is never: a power cut may lose any number of records")
    if config.gateway.expose_arm and config.sticky.trust != "all":
        notes.append(
            "gateway.expose_arm is true: whoever sends a name that nobody vouches for (sticky.trust) is told the arm, "
            "and can vote for one of them"
        )
    by_credential = config.sticky.cluster_by == "credential" and config.champion.api_key is None
    if by_credential and config.sticky.trust != "all" and not is_loopback(config.server.host):
        notes.append(
            "sticky.cluster_by is credential: if a model's server (a challenger's, too) does not check its clients' "
            'keys, a stranger passes for many by making them up; then set it to "network"'
        )
    data = config.generator_config
    if data.tokenizer and not Path(data.tokenizer).expanduser().exists():
        notes.append(f"generator_config.tokenizer: there is no {data.tokenizer}; tokens are counted as characters / 4")
    rehearsal = data.existing_data_path if data.include_existing_data else None
    if rehearsal and not Path(rehearsal).expanduser().exists():
        notes.append(
            f"generator_config.existing_data_path: there is no {rehearsal}; without it no dataset can be built"
        )
    redaction = config.capture.redaction
    if redaction.engine == "python":
        from proxy.config.literal import show
        from proxy.patterns.probe import slow_patterns

        notes += [
            f"capture.redaction.patterns: {show(pattern)} takes more than linear time on some texts: anybody can have "
            "a body stored without its words"
            for pattern in slow_patterns(redaction.patterns)
        ]
    if (terms := terms_note(config)) is not None:
        notes.append(terms)
    notes += judge_notes(config)
    return notes
