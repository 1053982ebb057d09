"""Ratchet: a serving proxy that makes the model behind it better, and never worse.

As a library, `from proxy import ContinuousLearningLoop, LoopConfig, UsageLogger, …` gives the loop without HTTP.
The names are looked up when they are first used, so that a gateway worker imports none of what stands behind them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.version import __version__

if TYPE_CHECKING:
    from policies.experiment import ABTestConfig
    from policies.guardrails import GuardrailConfig
    from policies.records import Feedback
    from policies.selection import DataGeneratorConfig
    from policies.triggers import TriggerConfig
    from proxy.config.loop import LoopConfig
    from proxy.loop.library.generator import TrainingDataGenerator
    from proxy.loop.library.loop import ContinuousLearningLoop, ModelChoice
    from proxy.loop.library.usage import UsageLogger

__all__ = [
    "ABTestConfig",
    "ContinuousLearningLoop",
    "DataGeneratorConfig",
    "Feedback",
    "GuardrailConfig",
    "LoopConfig",
    "ModelChoice",
    "TrainingDataGenerator",
    "TriggerConfig",
    "UsageLogger",
    "__version__",
]

_HOMES: Final = {
    "ABTestConfig": "policies.experiment",
    "ContinuousLearningLoop": "proxy.loop.library.loop",
    "DataGeneratorConfig": "policies.selection",
    "Feedback": "policies.records",
    "GuardrailConfig": "policies.guardrails",
    "LoopConfig": "proxy.config.loop",
    "ModelChoice": "proxy.loop.library.loop",
    "TrainingDataGenerator": "proxy.loop.library.generator",
    "TriggerConfig": "policies.triggers",
    "UsageLogger": "proxy.loop.library.usage",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _refuse_a_stranger()
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def _refuse_a_stranger() -> None:
    """Raise ImportError where `policies` is somebody else's: what follows would be an error that names nobody."""
    found = import_module("policies").__file__
    ours = Path(__file__).parents[1]
    if found is None or Path(found).parents[1] != ours:
        raise ImportError(
            "another package is called `policies`, which is the name of one of Ratchet's: Python finds "
            f"{found or 'a folder'} before the one in {ours}; rename the other, or take its folder out of PYTHONPATH"
        )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
