"""From settings to the judge that they name."""

from __future__ import annotations

import ssl
from typing import assert_never

from proxy.config.judge import JudgeConfig
from proxy.judge.callable import CallableJudge
from proxy.judge.openai import OpenAIJudge
from proxy.judge.ports import Judge

__all__ = ["make_judge", "scorer_of"]


def make_judge(config: JudgeConfig, tls: ssl.SSLContext | None = None) -> Judge | None:
    """The judge, whose `close` is the caller's; None for kind = none. Opens nothing before it is asked something.
    `tls`: whom to trust beside the system's authorities.

    Raises ConfigError where what it needs is not set.
    """
    match config.kind:
        case "none":
            return None
        case "openai":
            return OpenAIJudge(config, tls)
        case "callable":
            return CallableJudge(config)
        case _:
            assert_never(config.kind)


def scorer_of(config: JudgeConfig) -> str | None:
    """Who the judge of these settings is in tables (`Judge.scorer`); None for kind = none. Raises ConfigError."""
    judge = make_judge(config)
    return None if judge is None else judge.scorer
