"""`ratchet demo`: play the story, draw it, and say what to type next."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from policies.wording import many
from proxy.demo.live import part, render
from proxy.demo.plot import draw
from proxy.demo.story import Scene, Theatre, play, raise_curtain, settle
from proxy.printable import printable
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["run_demo"]

_LIMIT_S = 600.0
"""Nothing but a way out: two idle cores need a minute."""
_REFRESH_S = 0.25
_TALL = 100
"""Rows for the last screen: it stays, and may scroll."""


def run_demo(directory: Path, *, seed: int, fast: bool, keep_running: bool, rate: float) -> int:
    """Run the demo in `directory`.

    Returns 0 when it ended as it should, 1 when it did not, 130 on Ctrl-C, 143 when it was told to end by another
    signal (SIGTERM, a closed terminal). In every case nothing is left running.
    """
    console = Console()
    try:
        return asyncio.run(
            _run(directory.resolve(), console, seed=seed, fast=fast, keep_running=keep_running, rate=rate)
        )
    except KeyboardInterrupt:
        console.print(f"\nstopped; all data is in {_short(directory)}", highlight=False)
        return 130
    except asyncio.CancelledError:
        return 143
    except (FileExistsError, RuntimeError) as exc:
        console.print(Text(printable(str(exc)), style="red"))
        return 1


async def _run(directory: Path, console: Console, *, seed: int, fast: bool, keep_running: bool, rate: float) -> int:
    _end_on_signals()
    console.print("training a first model, and putting `ratchet serve` in front of it …")
    scene = Scene()
    async with raise_curtain(directory, seed=seed, fast=fast, rate=rate) as theatre:
        told = await _watch(theatre, scene, console, limit_s=_LIMIT_S)
        picture = directory / "demo.png"
        await asyncio.to_thread(draw, scene.tally.windows, scene.marks, picture)
        console.print(_epilogue(theatre, scene, picture, told), highlight=False)
        if told and keep_running:
            console.print("still running, with the bug fixed; Ctrl-C stops it", highlight=False)
            try:
                await _watch(theatre, scene, console, limit_s=float("inf"), forever=True)
            finally:
                console.print(_count(scene), highlight=False)
    return 0 if told and not scene.tally.ledger.lost else 1


def _end_on_signals() -> None:
    """As on Ctrl-C: otherwise a closed terminal would leave everything running that was started here."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)


async def _watch(theatre: Theatre, scene: Scene, console: Console, *, limit_s: float, forever: bool = False) -> bool:
    def screen() -> RenderableType:
        return render(theatre, scene, console.size.height)

    with Live(screen(), console=console, auto_refresh=False, transient=False) as live:

        async def redraw() -> None:
            while True:
                await asyncio.sleep(_REFRESH_S)
                live.update(screen(), refresh=True)

        drawing = spawn(redraw(), name="demo-screen")
        try:
            return await play(theatre, scene, limit_s=limit_s, forever=forever)
        finally:
            await settle(theatre, scene)
            await cancel_and_wait([drawing])
            live.update(render(theatre, scene, _TALL), refresh=True)


def _epilogue(theatre: Theatre, scene: Scene, picture: Path, told: bool) -> str:
    first = scene.tally.mean("champion", first=True)
    last = scene.tally.mean("champion", first=False)
    if not told:
        return (
            f"[red]The demo did not finish in time.[/red] See {theatre.directory / 'serve.log'};\n"
            f"`ratchet explain --config {theatre.directory / 'demo.toml'}` says what it was waiting for."
        )
    killed = ", ".join(kill.victim.value for kill in scene.kills)
    models = "model was" if scene.promotions == 1 else "models were"
    caught = "one by " + ", one by ".join(scene.caught.values())
    ratchet = _command()
    settings = _short(theatre.directory / "demo.toml")
    return f"""
[bold]What you have seen[/bold]
  right answers: {part(first)} before, {part(last)} now
  {scene.promotions} better {models} promoted, and {len(scene.caught)} bad ones were caught:
  {caught}
  the picture: {_short(picture)}

[bold]Killed meanwhile (kill -9)[/bold]
  {killed}
{_count(scene)}

[bold]Look closer[/bold]
  {ratchet} history --config {settings}
  {ratchet} records list --config {settings}

[bold]Your own model[/bold]
  {ratchet} serve --champion http://127.0.0.1:8000
      then point your client's base_url at http://127.0.0.1:8080
  docs/tutorial/quickstart.md
      thumbs, a training function, a deployer
"""


def _count(scene: Scene) -> str:
    """What customers have received, and what is in the log."""
    ledger, tally = scene.tally.ledger, scene.tally
    lost = f"[green]{ledger.lost} lost[/green]" if not ledger.lost else f"[red]{ledger.lost} lost[/red]"
    return (
        f"  {many(ledger.answers)} answers received, {many(ledger.logged)} of them in the log\n"
        f"  {many(ledger.votes)} votes accepted, {many(ledger.counted)} of them counted\n"
        f"  {lost}; {many(tally.cut_off)} cut off and sent again, as an SDK does; {tally.failures} failed"
    )


def _command() -> str:
    """How this command can be typed from here."""
    if shutil.which("ratchet"):
        return "ratchet"
    started = Path(sys.argv[0]).absolute()
    return "python -m proxy" if started.name == "__main__.py" else _short(started)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
