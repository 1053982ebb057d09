"""Settings of the gate: what a challenger is asked before users see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from policies.gate import PAIRS, SCORES
from policies.intervals import Interval

__all__ = ["ChecksConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksConfig:
    """The gate before the test: a challenger answers questions that the champion has answered, and those of a golden file."""

    golden: str | None = None
    """JSONL file of requests with what is expected of their answers, see docs/how-to/gate.md; both models are asked. None: there is none."""
    replays: Annotated[int, Interval("[0, inf)", "a count")] = 400
    """At most so many conversations of held-out users are asked again, one a user; with preferences of a judge twice as many. It ends as soon as the answers tell. 0: none."""
    days: Annotated[float, Interval("(0, inf)", "days")] = 14.0
    """How far back those conversations may lie."""
    undecided: Literal["canary", "hold"] = "canary"
    """What becomes of a challenger of which neither was shown, worse or close: `canary` goes on to the test, `hold` waits for a person."""
    judge: Literal["proven", "always", "never"] = "proven"
    """When a judge compares the answers: `proven` once its agreement with people's votes is, `always` from the first day, `never`."""
    judge_by: Literal["scores", "pairs"] = "scores"
    """What it is asked: a score for each answer (half the replays), or which of two is better, in both orders."""
    concurrency: Annotated[int, Interval("[1, inf)", "a count")] = 8
    """Requests to the challenger at a time."""
    answer_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 120.0
    """An answer that takes longer is none."""
    time_limit_minutes: Annotated[float, Interval("(0, inf)", "minutes")] = 60.0
    """A check that takes longer ends with what it has."""
    max_tokens: Annotated[int, Interval("[0, inf)", "tokens, 0 for no limit")] = 0
    """Tokens of prompts and answers, as the models and the judge count them, after which no more is asked; of an answer at most as many as it has bytes together with its question. 0: no limit."""
    broken_scores: Annotated[float, Interval("(0, 1)", "a mean difference, 0 to 1")] = SCORES.broken
    """A challenger whose mean score is lower by this much counts as broken: it passes in 1 % at most."""
    broken_pairs: Annotated[float, Interval("(0, 1)", "a mean difference, 0 to 1")] = PAIRS.broken
    """The same for preferences: lost minus won, as a share of the pairs."""
    golden_margin: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.02
    """Share of the golden file that must be lost, net of what is won, before a proven loss rejects."""
    golden_tag_margin: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for each tag."""
    model_name: bool = True
    """An answer has to name the model that was asked for, where the challenger has one set. Off for servers that always name another one."""
