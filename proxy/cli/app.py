"""The `ratchet` command: the table of verbs, and what all of them share.

Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 configuration, 4 server or store not reachable, 5 not found,
6 undecided (`check`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from proxy.cli import (
    check_model,
    checks,
    control,
    data,
    decisions,
    demo,
    feedback,
    keys,
    loop,
    models,
    notify,
    power,
    records,
    serve,
    simulate,
    status,
    store,
)
from proxy.cli.common import say
from proxy.printable import printable

__all__ = ["app"]


class _Root(TyperGroup):
    """What is wrong with a command line is quoted in the complaint: a name, perhaps, that somebody else chose."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        with _harmless():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        with _harmless():
            return super().invoke(ctx)


@contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        if isinstance(said := getattr(exc, "message", None), str):  # wrong usage: the class is no public name of typer
            vars(exc)["message"] = printable(said)
        raise


app = typer.Typer(
    name="ratchet",
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals hold secrets, and messages what users said: see proxy.cli.main
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A serving proxy that makes the model behind it better, and never worse.",
    epilog="Exit codes: 0 done · 1 failed or refused · 2 wrong usage · 3 configuration · "
    "4 server or store not reachable · 5 not found · 6 undecided (check)",
)


def _version(wanted: bool) -> None:
    if wanted:
        from proxy.version import __version__, build

        say(f"ratchet {__version__} ({build()})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


app.command("serve", rich_help_panel="Run")(serve.serve)
app.add_typer(loop.app, name="loop", rich_help_panel="Run")
app.command("check-config", rich_help_panel="Run")(checks.check_config)
app.command("check", rich_help_panel="Run")(check_model.check)
app.command("demo", rich_help_panel="Run")(demo.demo)

app.command("status", rich_help_panel="Watch")(status.status)
app.command("explain", rich_help_panel="Watch")(decisions.explain)
app.command("history", rich_help_panel="Watch")(decisions.history)
app.command("notify", rich_help_panel="Watch")(notify.notify)
app.command("power", rich_help_panel="Watch")(power.power)
app.command("simulate", rich_help_panel="Watch")(simulate.simulate)

for command in (
    control.trigger,
    control.promote,
    control.rollback,
    control.share,
    control.deploy,
    control.challenge,
    control.proceed,
    control.pause,
    control.resume,
    control.cancel,
):
    app.command(rich_help_panel="Steer")(command)

app.command("feedback", rich_help_panel="Data", context_settings={"ignore_unknown_options": True})(feedback.feedback)
app.add_typer(records.app, name="records", rich_help_panel="Data")
app.add_typer(data.app, name="data", rich_help_panel="Data")
app.add_typer(keys.app, name="keys", rich_help_panel="Data")
app.add_typer(models.app, name="models", rich_help_panel="Run")
app.add_typer(store.app, name="store", rich_help_panel="Data")
