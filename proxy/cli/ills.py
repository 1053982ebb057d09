"""What hurts, for the first lines of `ratchet status`: each thing in a sentence, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from policies.vocabulary import action_label
from policies.wording import counted, many, percent

if TYPE_CHECKING:
    from proxy.status import ChampionStatus, Status

__all__ = ["Ill", "champion_line", "ills"]

_BAD_SHARE = 0.05
"""From so many failed requests of the last minute on it is no accident."""

Ill = tuple[str, str]
"""What hurts, and the rest of the sentence."""


def ills(status: Status, when: Callable[[float | None], str]) -> Iterator[Ill]:
    """What is wrong, the worst first: users without answers, then what is not recorded, then a loop that stands still.
    `when` writes an instant."""
    yield from _champion(status, when)
    for about, trouble in status.troubles.items():
        if about != "champion" and not trouble.starting:  # of a start the phase speaks
            yield f"trouble ({about})", f"{trouble.sentence} (since {when(trouble.since)})"
    for role, model in (("challenger", status.challenger), ("previous champion", status.previous)):
        if model is not None and model.healthy is False:
            yield f"{role} {model.name} is not healthy", model.failed or "its server does not answer well; see its log"
    for retry in status.retries:
        about = f" ({retry.about})" if retry.about else ""
        times = "once" if retry.attempts == 1 else f"{many(retry.attempts)} times"
        yield (
            f"{action_label(retry.action)}{about}",
            f"failed {times}, next attempt at {when(retry.at)}: {retry.reason}",
        )
    if status.phase.paused:
        yield "the loop is paused", "it decides and starts nothing until `ratchet resume`"
    triggers = status.triggers
    if triggers is not None and triggers.brake == "rejections":
        facts = triggers.facts
        rejected = counted(facts.rejections_in_a_row, "challenger") if facts else "several challengers"
        yield (
            "triggers start no training",
            f"{rejected} in a row were not better than the champion; change the recipe or the data, then "
            "`ratchet trigger`",
        )


def _champion(status: Status, when: Callable[[float | None], str]) -> Iterator[Ill]:
    champion, trouble = status.champion, status.troubles.get("champion")
    if trouble:
        since = f" (since {when(trouble.since)}{_seen_by(status, champion)})"
        yield f"{_named(champion)} is not healthy", f"{trouble.sentence}{since}"
    elif champion and champion.requests and (champion.failed_share or 0.0) >= _BAD_SHARE:
        failed = round((champion.failed_share or 0.0) * champion.requests)
        last = f"; the latest: {champion.last_error.text}" if champion.last_error else ""
        yield (
            f"{_named(champion)} is failing",
            f"{many(failed)} of {counted(champion.requests, 'request')} in the last minute "
            f"({percent(champion.failed_share or 0.0)}){_seen_by(status, champion)}{last}",
        )


def champion_line(status: Status) -> str | None:
    """How a champion is that is not failing, by its own traffic; None without any."""
    champion = status.champion
    if champion is None or not champion.requests or "champion" in status.troubles:
        return None
    share = champion.failed_share or 0.0
    if share >= _BAD_SHARE:
        return None
    failed = round(share * champion.requests)
    of = f"{many(failed)} of {many(champion.requests)} requests failed in the last minute"
    return f"{_named(champion)} answers: {of}{_seen_by(status, champion)}"


def _named(champion: ChampionStatus | None) -> str:
    name = champion.name if champion else ""
    return name if name == "champion" else f"champion {name}".rstrip()


def _seen_by(status: Status, champion: ChampionStatus | None) -> str:
    """Whose view it is, where there are several."""
    return f", as {champion.seen_by} sees it" if status.replicas and champion and champion.seen_by else ""
