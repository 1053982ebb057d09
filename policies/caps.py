"""Limits of a training file that depend on its other samples: per user, per author, and on its length."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from policies.records import Author
from policies.selection import DataGeneratorConfig, DropReason

__all__ = ["Caps", "MemoryTally", "Tally"]


class Tally(Protocol):
    """Counts per user. The dataset builder keeps them in a temporary file, so that memory stays flat."""

    def add(self, user: int) -> int:
        """Count one more for `user`; returns the new count."""
        ...


class MemoryTally:
    """Counts in a dictionary, for small sets and for tests."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, user: int) -> int:
        """Count one more for `user`; returns the new count."""
        self._counts[user] += 1
        return self._counts[user]


@dataclass(slots=True)
class Caps:
    """Limits that depend on the other samples. Ask newest first: the newest are the ones that stay.

    While streaming, the claims apply the caps per user and `offer` counts what the rest brings. Afterwards `admit`
    walks over the offers in the same order. Corrections, and what models trained here wrote, are shares of the file
    that results: its size is the largest n = min(max_samples, e + min(p, s·n) + min(o, t·n)), for e lines of models
    from elsewhere, p corrections and o own ones, of which the shares are s and t. With e and o alone, n = e/(1 − t).

    A correction over its cap is left out, and what it corrects is not taught in its place: somebody said it is wrong.
    """

    config: DataGeneratorConfig
    users: Tally = field(default_factory=MemoryTally)
    correctors: Tally = field(default_factory=MemoryTally)
    """Corrections per user."""
    clusters: Tally = field(default_factory=MemoryTally)
    """Corrections per cluster of claimed names."""
    _offered: Counter[Author] = field(default_factory=Counter)
    _admitted: Counter[Author] = field(default_factory=Counter)
    _size: int | None = None
    """Lines that the file will have at most, as long as nothing more is offered."""

    def claim_correction(self, user: int | None, cluster: int | None) -> DropReason | None:
        """Count a correction on its user and on its cluster; None of either is not counted."""
        cap = self.config.max_corrections_per_user
        if cap is None:
            return None
        counts = [
            tally.add(key) for tally, key in ((self.correctors, user), (self.clusters, cluster)) if key is not None
        ]
        return DropReason.CORRECTIONS_OF_ONE if any(count > cap for count in counts) else None

    def claim(self, user: int | None) -> DropReason | None:
        """Count a sample on its user. Without a user (a key that was random per request) there is no cap."""
        cap = self.config.max_samples_per_user
        if user is None or cap is None or self.users.add(user) <= cap:
            return None
        return DropReason.USER_CAP

    def offer(self, author: Author, lines: int = 1) -> None:
        """Count lines that `author` wrote."""
        self._offered[author] += lines
        self._size = None

    @property
    def satisfied(self) -> bool:
        """Whether older samples can no longer be admitted: those that others wrote fill the file."""
        most = self.config.max_samples
        return most is not None and self._offered[Author.ELSEWHERE] + self._corrections(most) >= most

    def admit(self, author: Author) -> DropReason | None:
        """Whether an offered line may go into the file; ask once all offers are in."""
        if self.config.max_samples is not None and self._admitted.total() >= self.config.max_samples:
            return DropReason.MAX_SAMPLES
        if author is Author.OWN and self._admitted[author] >= self._own(self._lines()):
            return DropReason.OWN_SHARE
        if author is Author.PERSON and self._admitted[author] >= self._corrections(self._lines()):
            return DropReason.CORRECTION_SHARE
        self._admitted[author] += 1
        return None

    def _lines(self) -> int:
        """How many lines the file will have."""
        if self._size is None:
            most, last = self._offered.total(), -1
            if self.config.max_samples is not None:
                most = min(most, self.config.max_samples)
            while most != last:  # what fits into a smaller file is less, until it fits
                last = most
                most = min(last, self._offered[Author.ELSEWHERE] + self._corrections(last) + self._own(last))
            self._size = most
        return self._size

    def _corrections(self, lines: int) -> int:
        """How many corrections a file of so many lines has at most; one of any, where there may be some."""
        share = self.config.max_correction_share
        return min(self._offered[Author.PERSON], max(math.floor(share * lines + 1e-9), share > 0))

    def _own(self, lines: int) -> int:
        """How many lines that models trained here wrote a file of so many lines has at most."""
        return min(self._offered[Author.OWN], math.floor(self.config.max_own_share * lines + 1e-9))
