"""The truth about the store: whether what happens can be kept, by what was seen to be written.

Whoever meets an error of the database tells, whatever it was doing: ingest, the loop, a page of the console. It stays
a trouble until something was really written afterwards: reading goes on where the disk is full, where a standby was
put in the primary's place, and in the good pages of a damaged file. Where there is nothing to write, a few bytes are,
every few seconds. Each thing that is wrong has its own end: a batch that ingest cannot store is stored, a damaged file
shows no damage for a while.

From here `ratchet_store_up`, the trouble `store` and the workers' health are set, so that they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

from proxy.app.store_health_file import StoreHealthFile
from proxy.app.troubles import Troubles
from proxy.clock import Clock
from proxy.store.engine.refusals import RefusalKind

__all__ = ["StoreHealth"]

Wrong = Literal["start", "answer", "ingest", "damage", "files", "again", "unread"]
"""What is wrong: it is not open yet; something was refused since the last write; a batch cannot be stored; what is
stored is broken; the files were taken away; it is being given what it had and has no more; not all of the spool can
be read."""
_USABLE: Final[frozenset[Wrong]] = frozenset(("again", "unread"))
"""What is wrong while the store itself works."""
_PROVE_EVERY_S: Final = 4.0
_DAMAGED_S: Final = 300.0
_GOES_ON: Final = "serving goes on, records wait in the spool"


class StoreHealth:
    """Told by whoever uses the store; one thread."""

    def __init__(self, troubles: Troubles, file: StoreHealthFile, set_up: Callable[[bool], None], clock: Clock) -> None:
        self._troubles = troubles
        self._file = file
        self._set_up = set_up
        self._clock = clock
        self._wrong: dict[Wrong, str] = {}
        self._written_at = float("-inf")
        self._damaged_at = float("-inf")
        self._last = ""
        self.starting("the store is not open yet")

    @property
    def needs_proof(self) -> bool:
        """Whether something should be written, to see whether that works."""
        return bool(self._wrong) or self._clock.monotonic() - self._written_at >= _PROVE_EVERY_S

    def starting(self, sentence: str) -> None:
        """It is not open yet, which belongs to a start and is not logged."""
        self._not_open(sentence, starting=True)

    def kept_from_starting(self, sentence: str) -> None:
        """It is not open yet, and will not be before somebody has mended what `sentence` says; not logged either."""
        self._not_open(sentence, starting=False)

    def _not_open(self, sentence: str, *, starting: bool) -> None:
        self._wrong = {"start": sentence}
        self._troubles.report("store", sentence, quiet=True, starting=starting)
        self._set_up(False)

    def opened(self) -> None:
        """A database was opened, and written to: what was wrong with the one before is over, its damage, too."""
        self._wrong.clear()
        self._damaged_at = float("-inf")
        self.report_write()

    def report(self, what: Wrong, exc: BaseException | str) -> None:
        """Something was met."""
        if getattr(exc, "kind", None) is RefusalKind.RACE:
            return
        if getattr(exc, "kind", None) is RefusalKind.DAMAGED:
            what, self._damaged_at = "damage", self._clock.monotonic()
        sentence = exc if isinstance(exc, str) else getattr(exc, "sentence", str(exc).removeprefix("store: "))
        self._wrong.pop("start", None)
        self._wrong[what] = sentence
        self.publish()

    def report_error(self, exc: BaseException) -> None:
        """An error of the database, from wherever it was met."""
        self.report("answer", exc)

    def resolve(self, what: Wrong) -> None:
        """That is over."""
        if self._wrong.pop(what, None) is not None:
            self.publish()

    def report_write(self) -> None:
        """Something was written just now, and committed."""
        self._written_at = self._clock.monotonic()
        self._wrong.pop("start", None)
        self._wrong.pop("answer", None)
        if self._written_at - self._damaged_at >= _DAMAGED_S:
            self._wrong.pop("damage", None)
        self.publish()

    def publish(self) -> None:
        """Say it wherever it is asked for. Again now and then, where nothing has changed: who says nothing for long is
        not believed."""
        sentence = ""
        if self._wrong:
            refusals = {what: text for what, text in self._wrong.items() if what not in _USABLE}
            said = [*(refusals or self._wrong).values()]
            self._last = self._last if self._last in said else said[0]
            used = "the store cannot be used: " if refusals else ""
            sentence = f"{used}{self._last}; {_GOES_ON}"
            self._troubles.report("store", sentence)
        else:
            self._last = ""
            self._troubles.over("store", "the store can be written again")
        self._set_up(not sentence)
        with suppress(OSError):  # a full disk: health then says that nothing is known
            self._file.set(sentence, self._clock.now())
