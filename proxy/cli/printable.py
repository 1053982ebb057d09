"""The one way to the terminal: whatever a verb prints goes through `say`, `print_json` or `console` of this package.

Nobody has to remember which text came from outside. Strings are never read as markup (`[/nope]`, `[link=…]`, `:smile:`
stay what they are), and a last look at what rich is about to print escapes what was not escaped before. Colours are
ours alone: they come from `styled` and from rich's own tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.printable import json_printable, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["console", "json_printable", "plain", "printable", "say", "styled"]


def say(text: str, *, err: bool = False, colour: str | None = None) -> None:
    """One text on stdout, or on stderr; `colour` for a person who looks at it in a terminal."""
    import os

    import typer

    plainly = colour is None or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    shown = printable(text) if plainly else typer.style(printable(text), fg=colour)
    typer.echo(shown, err=err)  # noqa: TID251 - this is where it is made safe


def plain(text: str, style: str = "") -> Text:
    """`text` for a table, panel or title of rich's: safe, and nothing in it read as markup."""
    from rich.text import Text

    return Text(printable(text), style=style)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Several texts as one line, each as it is or with a style: `styled(("idle", "bold"), ": nothing to do")`."""
    from rich.text import Text

    return Text.assemble(*(plain(part) if isinstance(part, str) else plain(*part) for part in parts))


def console(*, err: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or wide enough for a pipe. On stderr with `err`."""
    terminal = _console(err=err)
    return terminal if terminal.is_terminal else _console(err=err, width=200)


def _console(*, err: bool, width: int | None = None) -> Console:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
    from rich.segment import Segment

    class Shown:
        """A thing of rich's as it is, but for the characters that command."""

        def __init__(self, inner: ConsoleRenderable) -> None:
            self._inner = inner

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for part in console.render(self._inner, options):
                yield part if part.control else Segment(printable(part.text), part.style)

    class Filter(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [Shown(one) for one in renderables]

    class Plain(Console):
        """Strings in tables and titles are texts, and are measured as they will be printed."""

        def render_str(self, text: str, **settings: object) -> Text:
            return super().render_str(printable(text), **{**settings, "markup": False, "emoji": False})  # type: ignore[arg-type]

    made = Plain(stderr=err, width=width, markup=False, emoji=False)
    made.push_render_hook(Filter())
    return made
