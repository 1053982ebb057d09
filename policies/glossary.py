"""What the console's words mean, one sentence each: beside a "?" on its pages, and as rows of docs/glossary.md.

The page of the documentation has more words, and says where the code has each; a test compares the sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["TERMS", "GlossaryWord"]

_STATISTICS: Final = "explanation/statistics-in-plain-words.md"
_RAMP: Final = "how-to/ramp.md"
_GATE: Final = "how-to/gate.md"


@dataclass(frozen=True, slots=True)
class GlossaryWord:
    """One word."""

    meaning: str
    """A sentence, or two."""
    page: str = _STATISTICS
    """Where the documentation says more: a file under docs/."""


TERMS: Final[Mapping[str, GlossaryWord]] = MappingProxyType(
    {
        "arm": GlossaryWord("A side of an experiment: champion or challenger; in the watch, champion or control."),
        "bounds": GlossaryWord(
            "Where the true value lies, with 95 % confidence however often one looks: a confidence sequence. "
            "More data bring them closer together."
        ),
        "challenger": GlossaryWord("The new model, tested on a share of the users.", "tutorial/challenger.md"),
        "champion": GlossaryWord("The model in production.", "tutorial/challenger.md"),
        "composite": GlossaryWord(
            "The weighted sum of the relative changes in quality, thumbs and latency; what stands for quality is found "
            "out at every look."
        ),
        "control": GlossaryWord(
            "The old champion in the watch, with the few users who stay on it: the new one is compared with it, hour "
            "by hour.",
            _RAMP,
        ),
        "effective users": GlossaryWord("How many equally active, independent users the data is worth."),
        "epoch": GlossaryWord(
            "A stretch of an experiment with one share, one pair of models and one set of terms; rows of two epochs "
            "are never pooled.",
            _RAMP,
        ),
        "e-value": GlossaryWord(
            "Evidence that may be looked at at any time; 20 means that luck would do this less than once in 20 times."
        ),
        "gate": GlossaryWord(
            "What compares a challenger with the champion before any user sees it, on questions that the champion has "
            "answered already.",
            _GATE,
        ),
        "guardrail": GlossaryWord(
            "A limit of its own for errors, refused requests, slow answers, quality, thumbs up, the judge's score or "
            "how answers behave, whatever the composite says."
        ),
        "holdout": GlossaryWord("Users whose samples are for evaluation only.", "how-to/look-at-the-data.md"),
        "judge": GlossaryWord(
            "What scores answers beside the traffic: a language model or a function. Its score counts only once its "
            "agreement with people's votes is proven.",
            "how-to/judge.md",
        ),
        "quality": GlossaryWord(
            "The score of an answer, 0 to 1: of the application, of people, of the judge where it counts, else of the "
            "format check, which sees only broken answers.",
            "how-to/quality.md",
        ),
        "ramp": GlossaryWord("The challenger's share rises by itself, stage by stage, while it does no harm.", _RAMP),
        "refused": GlossaryWord(
            "The model's server declined the request with a 4xx: whose fault that is shows beside what the other arm "
            "does."
        ),
        "rehearsal buffer": GlossaryWord(
            "Older samples mixed into each training file, against forgetting.", "how-to/look-at-the-data.md"
        ),
        "sample ratio mismatch": GlossaryWord(
            "The groups have other sizes than configured: something is broken, nothing is decided."
        ),
        "shadow": GlossaryWord(
            "Copies of live requests go to a challenger, and no user gets its answers.", "how-to/shadow.md"
        ),
        "stage": GlossaryWord(
            "An epoch of the test whose evidence counts beside that of the stages before it, at lower shares. Rows are "
            "never pooled.",
            _RAMP,
        ),
        "trigger": GlossaryWord("A reason to retrain.", "reference/config.md"),
        "watch window": GlossaryWord(
            "After a promotion: a few users stay on the old champion, which takes over again if guardrails break.",
            _RAMP,
        ),
    }
)
"""By word, as docs/glossary.md spells it."""
