"""`ratchet notify`: who gets notifications, and does a message arrive?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, fail, print_json, read_config, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.loop.adapters.messages import NotifyTarget
    from proxy.loop.adapters.notify import Posted

__all__ = ["notify"]


def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each, and show the answers.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """List the receivers of notifications (`notify.urls`) and the form that each gets.

    A receiver is shown by its form and host, for its URL holds a key. With --test the exit code is 1 if one of them
    does not take the message.
    """
    from proxy.loop.adapters.messages import targets_of

    found = read_config(config, data_dir)
    settings = found.notify
    targets = targets_of(settings.urls, settings.kinds, settings.console_url)
    if not targets:
        fail(Exit.CONFIG, "notify.urls is empty: nobody is told; name at least one URL")
    answers = asyncio.run(_send(targets, settings.timeout_seconds, found.champion.ca_file)) if test else []
    if json:
        print_json([_document(at, target, answers) for at, target in enumerate(targets)])
    else:
        for at, target in enumerate(targets):
            say(f"{target.name}{f': {_said(answers[at])}' if answers else ''}")
    if not all(answer.taken for answer in answers):
        raise typer.Exit(int(Exit.FAILED))


async def _send(targets: Sequence[NotifyTarget], timeout_s: float, ca_file: str | None) -> list[Posted]:
    import aiohttp

    from proxy.clock import SystemClock
    from proxy.config.authorities import trusting
    from proxy.loop.adapters.notify import post
    from proxy.loop.adapters.session import open_session

    event: dict[str, Any] = {
        "event": "test",
        "at": SystemClock().now(),
        "phase": None,
        "phase_before": None,
        "reason": "ratchet notify --test was called; nothing has happened",
        "who": "ratchet",
        "journal_seq": None,
        "run_id": None,
        "experiment_id": None,
        "missed": 0,
    }
    async with open_session(aiohttp.ClientTimeout(total=timeout_s), trusting(ca_file)) as session:
        return [await post(session, target, event) for target in targets]


def _said(answer: Posted) -> str:
    return f"{'taken' if answer.taken else 'not taken'} ({answer})"


def _document(at: int, target: NotifyTarget, answers: Sequence[Posted]) -> dict[str, Any]:
    shown: dict[str, Any] = {"receiver": target.name, "kind": target.kind}
    if answers:
        shown |= {"taken": answers[at].taken, "status": answers[at].status, "answer": answers[at].said}
    return shown
