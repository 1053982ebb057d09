"""What is wrong around this host at the moment: one sentence for each thing, shown the same everywhere.

/health, /status, `ratchet status`, the console, the metric and the log read this one object, so that they agree. A
trouble stays until whoever reported it has seen the opposite happen (a write that succeeded, an answer that came): that
nothing failed for a moment is no news.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from policies.wording import span
from proxy.clock import Clock
from proxy.status import TroubleStatus

__all__ = ["TOPICS", "Topic", "Trouble", "Troubles"]

Topic = Literal["store", "spool", "champion", "loop", "routes", "keys", "clock", "admin", "open_webui"]
TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)
"""Whatever can be in trouble: labels of `ratchet_trouble`, keys of `troubles` in /health and /status."""
_MINUTE_S: Final = 60.0
_SAME_S: Final = 10.0
"""What is back after less is the same trouble: it comes and goes, and has a line a minute, too, unless it stays longer
than that."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong."""

    sentence: str
    """What, and what to do about it: plain English, no full stop."""
    since: float
    """Unix seconds."""
    starting: bool = False
    """Whether it belongs to a start that is under way."""


class Troubles(Collector):
    """Set and cleared by whoever finds out; one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Topic, Trouble] = {}
        self._said_at: dict[Topic, float] = {}
        self._over_at: dict[Topic, float] = {}
        self._unsaid: dict[Topic, float] = {}
        """In trouble again so soon that it was not logged: since when (monotonic seconds)."""

    def report(self, topic: Topic, sentence: str, *, quiet: bool = False, starting: bool = False) -> None:
        """`topic` is in trouble. Logged when it is new, and when the sentence has changed (once a minute at most), but
        not where that is said elsewhere (`quiet`), or as long as it is `starting`."""
        quiet = quiet or starting
        known = self._known.get(topic)
        same = known is not None and (known.sentence, known.starting) == (sentence, starting)
        if same and topic not in self._unsaid:
            return
        now = self._clock.monotonic()
        if known is None and now - self._over_at.get(topic, float("-inf")) >= _SAME_S:
            self._said_at.pop(topic, None)
        stays = now - self._unsaid.get(topic, now) >= _SAME_S
        if not quiet and (stays or now - self._said_at.get(topic, float("-inf")) >= _MINUTE_S):
            _log.error("%s: %s", topic, sentence)
            self._said_at[topic] = now
            self._unsaid.pop(topic, None)
        elif not quiet and known is None:
            self._unsaid[topic] = now
        since = self._clock.now() if known is None else known.since
        self._known[topic] = Trouble(sentence, since, starting)

    def over(self, topic: Topic, how: str = "well again", *, cost: str = "") -> None:
        """`topic` was seen to work. `how`: what is logged where it was in trouble, with how long that took, and
        `cost` behind it."""
        known = self._known.pop(topic, None)
        if known is None:
            return
        self._over_at[topic] = self._clock.monotonic()
        if self._unsaid.pop(topic, None) is None and topic in self._said_at:
            lasted = span(max(0.0, self._clock.now() - known.since))
            _log.warning("%s: %s after %s%s", topic, how, lasted, f", {cost}" if cost else "")

    def of(self, topic: Topic) -> str:
        """The sentence about `topic`; empty where all is well."""
        known = self._known.get(topic)
        return "" if known is None else known.sentence

    @property
    def first(self) -> str:
        """The sentence about the first of `TOPICS` that is in trouble; empty where all is well."""
        return next((trouble.sentence for trouble in self.known.values()), "")

    @property
    def known(self) -> Mapping[Topic, Trouble]:
        """All that is wrong, in the order of `TOPICS`."""
        return {topic: self._known[topic] for topic in TOPICS if topic in self._known}

    def status(self) -> dict[str, TroubleStatus]:
        """For /status."""
        return {
            topic: TroubleStatus(sentence=one.sentence, since=one.since, starting=one.starting)
            for topic, one in self.known.items()
        }

    def document(self) -> dict[str, dict[str, Any]]:
        """For /health: {topic: {"sentence", "since"}}."""
        return {topic: {"sentence": trouble.sentence, "since": trouble.since} for topic, trouble in self.known.items()}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """`ratchet_trouble{about}`: 1 where something is wrong."""
        gauge = GaugeMetricFamily("ratchet_trouble", "1 while something is wrong; /health says what.", labels=["about"])
        for topic in TOPICS:
            gauge.add_metric([topic], float(topic in self._known))
        yield gauge
