"""Settings of the judge: what scores answers that nobody has voted on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from policies.intervals import Interval
from proxy.config import forms

__all__ = ["JudgeConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Scores a sample of the answers, beside the traffic. Its score decides nothing until its agreement with people's votes is proven."""

    kind: Literal["none", "openai", "callable"] = "none"
    """openai: a language model behind any OpenAI-style endpoint. callable: a Python function. Leaves this machine: with openai, what your users said."""
    url: Annotated[str | None, forms.base_url] = None
    """kind = openai: base URL of its API, e.g. https://api.openai.com/v1; `/chat/completions` is added. Use another family than champion and challenger."""
    model: str | None = None
    """kind = openai: the model that judges."""
    api_key: Annotated[str | None, forms.secret] = field(default=None, repr=False, metadata={"secret": True})
    """kind = openai: bearer key of the endpoint."""
    api_key_file: str | None = None
    """File that holds api_key."""
    callable: Annotated[str | None, forms.import_path] = None
    """kind = callable: `package.module:function`, called with a list of records in a process of its own; returns a score from 0 to 1, or None, for each."""
    rubric: str | None = None
    """What makes an answer good here, in words. None: a general rubric. Another rubric is another judge, whose agreement starts anew."""
    rubric_file: str | None = None
    """File that holds rubric."""
    version: str = ""
    """Change it when the judge changes in a way that these settings do not show (a new function, a retrained model): its agreement starts anew."""
    sample: Annotated[float, Interval("[0, 1]", "a share of the answers, 0 to 1")] = 0.2
    """Share of the answers that are judged, drawn by a hash of the record's id and so the same in both arms. Change it between experiments."""
    max_per_hour: Annotated[int, Interval("[0, inf)", "a count")] = 300
    """Answers judged in any hour at most. What is over the budget waits, and is left out once it is an hour old: by time, never by arm."""
    max_per_day: Annotated[int, Interval("[0, inf)", "a count")] = 3000
    """The same in any 24 hours."""
    delay_seconds: Annotated[float, Interval("[0, 3000]", "seconds")] = 60.0
    """Answers are judged so long after their request arrived: by then slow ones are there, too, and neither arm's are left out."""
    concurrency: Annotated[int, Interval("[1, 64]", "a count")] = 4
    """Questions to the judge that are open at once."""
    timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 60.0
    """One question may take so long; kind = callable: one call with up to 16 records."""
    attempts: Annotated[int, Interval("[1, 10]", "a count")] = 3
    """kind = openai: how often a question is asked where the endpoint is busy, silent or fails; after a wait that grows, or that it names."""
    trust: Literal["rectified", "unrectified"] = "rectified"
    """rectified: once it counts, it promotes only as corrected by people's votes. unrectified: it may promote alone, which a judge that favours a model makes wrong."""
    options: dict[str, str] = field(default_factory=dict)
    """kind = openai: further members of each request's body, JSON or text, e.g. temperature = "0" or max_tokens = "500"."""
