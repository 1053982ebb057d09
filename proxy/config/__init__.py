"""Settings: dataclasses with a line under every key, read from TOML, JSON, environment and secret files."""

from proxy.config.checks import check_serving
from proxy.config.load import fingerprint, load_config, parse_as, parse_config, public_document
from proxy.config.loop import DeployerConfig, LoopConfig, LoopSettings, NotifyConfig, TrainerConfig
from proxy.config.model import Config, FeedbackConfig, ScoringConfig, TelemetryConfig

__all__ = [
    "Config",
    "DeployerConfig",
    "FeedbackConfig",
    "LoopConfig",
    "LoopSettings",
    "NotifyConfig",
    "ScoringConfig",
    "TelemetryConfig",
    "TrainerConfig",
    "check_serving",
    "fingerprint",
    "load_config",
    "parse_as",
    "parse_config",
    "public_document",
]
