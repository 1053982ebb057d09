"""`ratchet demo`: play the story, draw it, and say what to type next."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.live import Live

from proxy.demo.live import render
from proxy.demo.plot import draw
from proxy.demo.story import Scene, Stage, play, raise_curtain
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["run_demo"]

_LIMIT_S = 600.0
"""Nothing but a way out: two idle cores need a minute."""
_REFRESH_S = 0.25


def run_demo(directory: Path, *, seed: int, fast: bool, keep_running: bool, rate: float) -> int:
    """Run the demo in `directory`; returns 0 when it ended as it should, 1 when it did not, 130 on Ctrl-C."""
    console = Console()
    try:
        return asyncio.run(
            _run(directory.resolve(), console, seed=seed, fast=fast, keep_running=keep_running, rate=rate)
        )
    except KeyboardInterrupt:
        console.print("\nstopped; everything that was logged is in", str(directory))
        return 130
    except (FileExistsError, RuntimeError) as exc:
        console.print(f"[red]{exc}[/red]")
        return 1


async def _run(directory: Path, console: Console, *, seed: int, fast: bool, keep_running: bool, rate: float) -> int:
    console.print("training a first model on the handbook, starting it and `ratchet serve` in front of it …")
    scene = Scene()
    async with raise_curtain(directory, seed=seed, fast=fast, rate=rate) as stage:
        told = await _watch(stage, scene, console, limit_s=_LIMIT_S)
        picture = directory / "demo.png"
        await asyncio.to_thread(draw, scene.tally.windows, scene.marks, picture)
        console.print(_epilogue(stage, scene, picture, told), highlight=False)
        if told and keep_running:
            console.print(f"still running: {stage.admin_url} — Ctrl-C stops it", highlight=False)
            await play(stage, Scene(bug_planted=True), limit_s=float("inf"), forever=True)
    return 0 if told else 1


async def _watch(stage: Stage, scene: Scene, console: Console, *, limit_s: float) -> bool:
    with Live(render(stage, scene), console=console, auto_refresh=False, transient=False) as live:

        async def redraw() -> None:
            while True:
                await asyncio.sleep(_REFRESH_S)
                live.update(render(stage, scene), refresh=True)

        drawing = spawn(redraw(), name="demo-screen")
        try:
            return await play(stage, scene, limit_s=limit_s)
        finally:
            await cancel_and_wait([drawing])
            live.update(render(stage, scene), refresh=True)


def _epilogue(stage: Stage, scene: Scene, picture: Path, told: bool) -> str:
    first = scene.tally.mean("champion", first=True)
    last = scene.tally.mean("champion", first=False)
    if not told:
        return (
            f"[red]The story did not end in time.[/red] What happened is in {stage.directory / 'serve.log'};\n"
            f"`ratchet explain --config {stage.directory / 'demo.toml'}` says what it was waiting for."
        )
    models = "model was" if scene.promotions == 1 else "models were"
    ratchet = _command()
    settings = _short(stage.directory / "demo.toml")
    return f"""
[bold]What you have seen[/bold]
  right answers: {first:.0%} before, {last:.0%} now
  {scene.promotions} better {models} promoted, and one bad one was caught
  {scene.tally.asked:,} questions, {scene.tally.votes:,} votes, {scene.tally.failures} questions failed
  the picture: {_short(picture)}

[bold]Look closer[/bold]
  {ratchet} history --config {settings}
  {ratchet} records list --config {settings}

[bold]Your own model[/bold]
  {ratchet} serve --champion http://127.0.0.1:8000
      then point your client's base_url at http://127.0.0.1:8080
  docs/tutorial/quickstart.md
      thumbs, a training function, a deployer
"""


def _command() -> str:
    """How this command can be typed from here."""
    return "ratchet" if shutil.which("ratchet") else _short(Path(sys.argv[0]).absolute())


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
