"""`ratchet serve`: start the proxy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from proxy.cli.cautions import certificate_ended, settings_file_open
from proxy.cli.common import ConfigOption, DataDirOption, Exit, fail, read_config, say

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = ["ChampionOption", "SetOption", "parse_settings", "serve"]

_LOCAL: Final = frozenset({"callable", "command"})

ChampionOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Base URL of the model's server (champion.url).", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, e.g. --set gateway.via=true. Repeatable.",
        show_default=False,
    ),
]


def serve(
    champion: ChampionOption = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Public address (server.host).", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Public port (server.port).", show_default="8080")] = None,
    admin_host: Annotated[
        str | None, typer.Option(help="Admin address (admin.host).", show_default="127.0.0.1")
    ] = None,
    admin_port: Annotated[int | None, typer.Option(help="Admin port (admin.port).", show_default="8081")] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes (server.workers).", show_default="1")] = None,
    data_dir: DataDirOption = None,
    settings: SetOption = None,
) -> None:
    """Start the proxy: forward every request, keep each user on one model, record, learn.

    `ratchet serve --champion http://127.0.0.1:8000` is enough to start. Then point clients at http://127.0.0.1:8080
    instead of at the model; metrics and console are on http://127.0.0.1:8081. On SIGTERM it finishes open streams and
    stops.
    """
    overrides = {
        "champion.url": champion,
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
        "admin.host": admin_host,
        "admin.port": admin_port,
        **parse_settings(settings),
    }
    loaded = read_config(config, data_dir, overrides)
    from proxy.config import check_serving, load_config
    from proxy.config.authorities import trusting
    from proxy.config.variables import mistaken_variables
    from proxy.errors import ConfigError

    try:
        check_serving(loaded)
        trusting(loaded.champion.ca_file)
        if loaded.telemetry.otlp_endpoint is not None:
            from proxy.config.programs import otlp_target

            otlp_target(loaded.telemetry)
    except ConfigError as exc:
        fail(Exit.CONFIG, str(exc))
    for sentence in (*mistaken_variables(os.environ), *settings_file_open(config)):
        _warn(sentence)
    _warn_of_what_is_missing(loaded)
    from proxy.app import serve as run
    from proxy.config.load import origins_of

    options = {"server.data_dir": data_dir, **overrides}
    raise typer.Exit(
        run(
            loaded,
            config,
            lambda: load_config(config, options, os.environ),
            lambda: origins_of(config, options, os.environ),
        )
    )


def _warn_of_what_is_missing(config: Config) -> None:
    """A training that is due in a week, or a check, is no reason not to serve, but better known now."""
    if sentence := certificate_ended(config):
        _warn(f"{sentence}; until then clients refuse it")
    if config.trainer.kind in _LOCAL or config.deployer.kind in _LOCAL or config.judge.kind in _LOCAL:
        from proxy.config.programs import missing_programs

        for missing in missing_programs(config):
            halted = "nothing is judged" if missing.path.startswith("judge.") else "no model can be trained or served"
            _warn(f"{missing}; until this is fixed {halted}")
    if config.checks.golden is not None:
        from proxy.checks.golden import golden_of
        from proxy.errors import ConfigError

        try:
            golden_of(config)
        except ConfigError as exc:
            _warn(f"{exc}; until this is fixed every challenger waits in its check")


def _warn(sentence: str) -> None:
    say(f"ratchet: warning: {sentence}", err=True, colour=typer.colors.YELLOW)


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """`["gateway.via=true"]` as overrides; a key that does not exist is left for the configuration to refuse."""
    from proxy.config.model import Config
    from proxy.config.parse import from_text, keys

    hints = {key.path: key.hint for key in keys(Config)}
    overrides: dict[str, Any] = {}
    for setting in settings or ():
        path, equals, text = setting.partition("=")
        if not equals:
            fail(Exit.USAGE, f"--set {setting}: write KEY=VALUE, for example --set server.port=9000")
        overrides[path] = from_text(hints.get(path, str), text)
    return overrides
