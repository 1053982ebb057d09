"""How the champion is, known from the traffic itself: every two seconds from what the workers have counted.

`policies.model_health` judges; its evidence is gathered here, and what comes of it is said in one place for all:
the trouble `champion`, `champion` in /status and /health, two metrics. Until traffic tells, what counts is an answer to
one probe at the start (`proxy.app.model_probe`), repeated while the answer was no. A champion that was
failing and gets no more requests goes on failing, unless it could not be reached at all and now can.

Each host judges by its own traffic: where several share a database, one may reach the champion and another not.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from policies.model_health import Answers, Evidence, ModelHealth, judge
from proxy.app.boot import configured_champion
from proxy.app.model_probe import describe, probe_model
from proxy.app.paths import DataDir
from proxy.app.tallies import RequestCounts, Tallies
from proxy.app.troubles import Troubles
from proxy.clock import Clock
from proxy.config.authorities import trusting
from proxy.config.model import Config
from proxy.credentials import CredentialFile
from proxy.gateway.faults import Fault
from proxy.gateway.outbound import via_token
from proxy.ids import KeyRing
from proxy.routes import Target, read_routes
from proxy.status import ChampionStatus, ErrorStatus, Status
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["ChampionWatch"]

_LOOK_S: Final = 2.0
_MINUTE_S: Final = 60.0
_LAPSES_S: Final = 900.0
"""A champion that nobody has asked for so long is unknown."""
_ASK_AGAIN_S: Final = (2.0, 4.0, 8.0, 15.0)
_ASK_FAILING_S: Final = 30.0
_OUT_OF_REACH: Final = frozenset((Fault.REFUSED, Fault.UNRESOLVED, Fault.NO_CONNECTION, Fault.UNREACHABLE, Fault.TLS))
_MANY_REFUSED: Final = 20
_ROW: Final = 3
_MOST: Final = 0.5
"""Below this share of bad answers a minute alone does not show what is going on now."""


@dataclass(slots=True)
class _SinceChange:
    """What came since the champion was last found well, failing or unknown."""

    began_at: float
    """Monotonic seconds."""
    good: int = 0
    bad: int = 0
    good_in_a_row: int = 0
    failed_in_a_row: int = 0

    def take(self, latest: Answers) -> None:
        self.good += latest.good
        self.bad += latest.bad
        self.good_in_a_row = 0 if latest.bad else self.good_in_a_row + latest.good
        self.failed_in_a_row = 0 if latest.good else self.failed_in_a_row + latest.failed


class ChampionWatch(Collector):
    """Looks, judges, and says. One thread."""

    def __init__(self, config: Config, data: DataDir, clock: Clock, troubles: Troubles, keys: KeyRing, *,
                 asks: bool = True) -> None:  # fmt: skip
        """`asks`: whether the champion may be asked, besides watching what its users get."""
        self._config, self._data, self._clock, self._troubles, self._keys = config, data, clock, troubles, keys
        self._asks = asks
        self._tls = trusting(config.champion.ca_file)
        self._credentials = CredentialFile(data.credentials, config.champion)
        self._routes_stamp: tuple[int, int] | None = None
        self._target = self._read_target() or configured_champion(config)
        self._tallies = Tallies(data.run, own_key=config.champion.api_key is not None)
        self._host = socket.gethostname()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Another model is champion: nothing is known of it."""
        self._health = ModelHealth.UNKNOWN
        self._since = self._clock.now()
        self._since_change = _SinceChange(self._clock.monotonic())
        self._seen: deque[tuple[float, RequestCounts]] = deque()
        self._asked: str | None = None
        """What the last question brought: nothing (None), no problem (empty) or a sentence."""
        self._answered_at = -inf
        self._answered_on: float | None = None
        self._last_error: dict[str, Any] | None = None
        self._last_fault: Fault | None = None
        self._in_a_row = 0
        """Requests that failed since the last look that saw a good answer: within one their order is not known."""
        self._lost = 0
        """Requests that failed since it is failing, and those by which that was noticed."""

    async def run(self) -> None:
        """Look until cancelled."""
        asking = spawn(self._keep_asking(), name="ask the champion") if self._asks else None
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                self.look()
        finally:
            if asking is not None:
                await cancel_and_wait([asking])

    def look(self) -> None:
        """Take up what was counted since the last look, and judge."""
        self._follow_routes()
        now, tally = self._clock.monotonic(), self._tallies.next()
        latest = tally.answers
        if latest != Answers():
            self._seen.append((now, tally))
        while self._seen and self._seen[0][0] <= now - _MINUTE_S:
            self._seen.popleft()
        self._since_change.take(latest)
        self._in_a_row = 0 if latest.good else self._in_a_row + latest.bad
        if latest.answered:
            self._answered_at, self._answered_on = now, self._clock.now()
        if latest.good:
            self._asked = None  # traffic tells more
        if latest.bad or latest.left:
            self._note_error(tally)
        before = self._health
        after = judge(before, self._evidence(latest))
        if after is not before:
            self._change(after)
        elif before is ModelHealth.FAILING:
            self._lost += latest.bad
        elif before is ModelHealth.WELL and now - self._answered_at > _LAPSES_S:
            self._change(ModelHealth.UNKNOWN)
        self._say(recovered=before is ModelHealth.FAILING and after is ModelHealth.WELL, latest=latest)

    def _evidence(self, latest: Answers) -> Evidence:
        course = self._since_change
        return Evidence(
            minute=sum((tally.answers for at, tally in self._seen if at > course.began_at), Answers()),
            latest=latest,
            good=course.good,
            good_in_a_row=course.good_in_a_row,
            failed_in_a_row=course.failed_in_a_row,
        )

    def _change(self, health: ModelHealth) -> None:
        if health is ModelHealth.FAILING:
            minute = self._evidence(Answers()).minute  # what an earlier failure cost was said at its end
            self._lost = max(minute.bad, self._since_change.failed_in_a_row)
        elif self._health is ModelHealth.UNKNOWN:
            self._lost = self._since_change.bad
        self._health, self._since = health, self._clock.now()
        self._since_change = _SinceChange(self._clock.monotonic())

    def _note_error(self, tally: RequestCounts) -> None:
        if tally.faults:
            self._last_fault = max(tally.faults, key=lambda fault: tally.faults[fault])
            what = describe(self._last_fault)[0]
        elif tally.answers.denied:
            self._last_fault, what = None, f"our API key was refused ({401 if 401 in tally.refused else 403})"
        else:
            self._last_fault, what = Fault.SILENT, "clients disconnected before any answer"
        self._last_error = {"text": f"{what} at {self._url}", "at": self._clock.now()}

    # -- saying it

    def _say(self, *, recovered: bool, latest: Answers) -> None:
        if self._health is ModelHealth.FAILING:
            self._troubles.report("champion", self._failing())
        elif self._asked:
            self._troubles.report("champion", f"checked before the first request: {self._asked}")
        elif recovered:
            self._troubles.over("champion", "answers again", cost=_failed(self._lost + latest.bad))
        elif self._health is ModelHealth.WELL or self._asked is not None:
            self._troubles.over("champion", "answers", cost=_failed(self._lost) if self._lost else "")

    def _failing(self) -> str:
        """What is wrong, since when, and what to do about it."""
        minute, error = self._minute().answers, (self._last_error or {}).get("text", "")
        if self._last_fault is not None:
            remedy = describe(self._last_fault)[1]
        else:
            remedy = "check champion.api_key and champion.api_key_header"
        if minute.answered and self._in_a_row >= _ROW and (minute.bad_share or 0.0) < _MOST:
            said = (f"the last {self._in_a_row:,} requests failed, {minute.bad:,} of {minute.answered:,} in the last "
                    "minute")  # fmt: skip
        elif minute.answered:
            said = f"{minute.bad:,} of {minute.answered:,} requests failed in the last minute"
        elif minute.left:
            said = f"no answers in the last minute, {minute.left:,} clients disconnected"
        else:
            lost = _failed(self._lost) if self._lost else "clients disconnected without an answer"
            said = f"{lost}, and no requests since"
        return f"{said}: {error}; {remedy}"

    def _minute(self) -> RequestCounts:
        """Of the last minute, whatever the health was."""
        refused: Counter[int] = Counter()
        for _, tally in self._seen:
            refused.update(tally.refused)
        return RequestCounts(answers=sum((tally.answers for _, tally in self._seen), Answers()), refused=refused)

    @property
    def healthy(self) -> bool | None:
        """Whether it answers; None where nothing is known."""
        if self._health is not ModelHealth.UNKNOWN:
            return self._health is ModelHealth.WELL
        return None if self._asked is None else not self._asked

    def document(self) -> dict[str, Any]:
        """For /health: {"name", "healthy", "since" (Unix seconds) it has been so, "failed_share" of the
        "requests" of the last minute that were answered or failed, "last_error": {"text", "at"} | null,
        "last_answer_at" (good or bad), "seen_by": this host}. Unknown is null."""
        minute = self._minute().answers
        return {
            "name": self._target.name,
            "healthy": self.healthy,
            "since": self._since,
            "failed_share": minute.bad_share,
            "requests": minute.answered,
            "last_error": self._last_error,
            "last_answer_at": self._answered_on,
            "seen_by": self._host,
        }

    def into(self, status: Status) -> Status:
        """The status with what is known here of its champion; what traffic does not tell stays as it is."""
        minute, shown = self._minute().answers, status.champion or ChampionStatus(name=self._target.name)
        if shown.name != self._target.name:
            return status  # a promotion is on its way
        champion = replace(
            shown,
            healthy=shown.healthy if self.healthy is None else self.healthy,
            unhealthy_since=self._since if self.healthy is False else shown.unhealthy_since,
            since=self._since,
            failed_share=minute.bad_share,
            requests=minute.answered,
            last_error=None if self._last_error is None else ErrorStatus(**self._last_error),
            last_answer_at=self._answered_on,
            seen_by=self._host,
        )
        note = self.note()
        return replace(status, champion=champion, notes=(*status.notes, *((note,) if note else ())))

    def note(self) -> str:
        """What may be right, and may be not: every request of the last minute was refused."""
        minute = self._minute()
        refused, answered = sum(minute.refused.values()), minute.answers.answered
        if answered < _MANY_REFUSED or refused < answered or minute.answers.denied:
            return ""
        status = max(minute.refused, key=lambda known: minute.refused[known])
        word = "4xx" if status == 400 else str(status)
        return (f"{self._target.name} refused all {answered:,} requests of the last minute ({word} most often); "
                "if the clients' requests are right, check champion.url, its path, and the API keys")  # fmt: skip

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """`ratchet_champion_up`, `ratchet_champion_failed_share`; neither has a sample while it is unknown."""
        up = GaugeMetricFamily("ratchet_champion_up", "1 while the champion answers, 0 while it fails; by this host.")
        if self.healthy is not None:
            up.add_metric([], float(self.healthy))
        share = GaugeMetricFamily(
            "ratchet_champion_failed_share", "Share of the last minute's requests that the champion failed."
        )
        failed = self._minute().answers.bad_share
        if failed is not None:
            share.add_metric([], failed)
        yield up
        yield share

    # -- who is champion, and asking it

    @property
    def _url(self) -> str:
        parts = urlsplit(self._target.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))

    def _follow_routes(self) -> None:
        target = self._read_target()
        if target is None or replace(target, model_id=0) == replace(self._target, model_id=0):
            return
        self._target = target
        self._begin_anew()
        self._troubles.over("champion", "the champion, or its address, has changed")

    def _read_target(self) -> Target | None:
        """The champion of the route table, if that has changed."""
        try:
            status = self._data.routes.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._routes_stamp:
                return None
            self._routes_stamp = stamp
            return read_routes(self._data.routes).champion
        except (OSError, ValueError):
            return None

    async def _keep_asking(self) -> None:
        """Once, and then only while that would be news."""
        again = iter(_ASK_AGAIN_S)
        while True:
            if self._health is ModelHealth.FAILING or (self._health is ModelHealth.UNKNOWN and self._asked != ""):
                await self.ask()
            failing = self._health is ModelHealth.FAILING
            await asyncio.sleep(_ASK_FAILING_S if failing else next(again, _ASK_AGAIN_S[-1]))

    async def ask(self) -> None:
        """Ask the champion whether it is there, and take up the answer where traffic has told nothing meanwhile."""
        target, came = self._target, self._answered_at
        credential = self._credential(target)
        via = via_token(self._keys.user_hash).decode()
        problem = await probe_model(self._url, credential=credential, via=via, tls=self._tls)
        if target is not self._target or came != self._answered_at:
            return
        if self._health is ModelHealth.FAILING:
            if not problem and self._last_fault in _OUT_OF_REACH:
                self._change(ModelHealth.UNKNOWN)
                self._asked = ""
                self._troubles.over("champion", "reachable again", cost=f"{_failed(self._lost)} before")
            return
        if self._health is ModelHealth.UNKNOWN:
            self._asked = problem
            self._since = self._clock.now()
            self._say(recovered=False, latest=Answers())

    def _credential(self, target: Target) -> tuple[str, str] | None:
        """As workers send it."""
        with suppress(OSError, ValueError):  # workers say so, and go on with what they have read
            self._credentials.refresh()
        try:
            return None if target.credential is None else self._credentials.header(target.credential, target.url)
        except ValueError:  # it is not here, or for another server
            return None


def _failed(number: int) -> str:
    return "1 request failed" if number == 1 else f"{number:,} requests failed"
