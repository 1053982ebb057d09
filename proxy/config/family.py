"""Is the judge a relative of what it judges? Models prefer answers of their own kind, and no statistic on a judge's
scores sees it.

Told from names and addresses alone, so it is advice: a fine-tuned model may have any name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from proxy.config.model import Config
from proxy.config.terms import provider_of

__all__ = ["family_of", "judge_notes"]

_MARKS: Final = re.compile(r"[a-z]{2,}")
_NO_FAMILY: Final = frozenset(
    {"", "ft", "meta", "model", "base", "default", "chat", "instruct", "judge", "local", "my"}
)
_REMEDY: Final = (
    "a model prefers answers of its own family, and nothing computed from its scores shows that; use a judge of a third "
    "family, keep a golden file, and leave the decision to users"
)


def family_of(model: str) -> str | None:
    """The family that a model's name begins with, in lower case: `llama` of `meta-llama/Llama-3.1-8B`, `gpt` of
    `ft:gpt-4o-mini:acme`; None where the name says none."""
    for part in reversed(model.lower().split("/")):
        words: list[str] = [word for word in _MARKS.findall(part) if word not in _NO_FAMILY]
        if words:
            return words[0]
    return None


def judge_notes(config: Config) -> Iterator[str]:
    """What speaks against this judge; nothing where there is none."""
    judge = config.judge
    if judge.kind == "none":
        return
    if judge.kind == "openai" and (relative := _relative(config)) is not None:
        yield f"{relative}: {_REMEDY}"
    if judge.trust == "unrectified":
        yield (
            'judge.trust is "unrectified": once its agreement is proven, the judge may promote a model that the votes of '
            "people do not bear out; a judge that favours the challenger by a few points then promotes an equal one "
            "almost every time"
        )
    if not judge.sample or not judge.max_per_hour:
        yield "judge.sample or judge.max_per_hour is 0: nothing is judged"


def _relative(config: Config) -> str | None:
    """How the judge is related to what it judges."""
    judge, deployer = config.judge, config.deployer
    for key, url in (("champion.url", config.champion.url), ("deployer.url", deployer.url),
                     *(("deployer.urls", url) for url in deployer.urls)):  # fmt: skip
        if url and judge.url and _server(url) == _server(judge.url) and provider_of(url) is None:
            return f"judge.url is the server of {key}"
    family = family_of(judge.model or "")
    named = (("champion.model", config.champion.model), ("trainer.options.model", config.trainer.options.get("model")))
    for key, model in named:
        if model and family is not None and family_of(model) == family:
            return f"judge.model is of the family of {key} ({family})"
    provider = provider_of(judge.url or "")
    if provider is not None and provider == provider_of(config.champion.url) and not config.champion.model:
        return f"judge.url and champion.url are both {provider}'s"
    return None


def _server(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
