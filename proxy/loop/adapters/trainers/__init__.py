"""Trainers: one adapter a file, unaware of each other. `build_trainer` is the only place that knows them all."""

from __future__ import annotations

import ssl
from typing import assert_never

from proxy.config.loop import TrainerConfig
from proxy.loop.ports import Trainer

__all__ = ["build_trainer"]


def build_trainer(config: TrainerConfig, tls: ssl.SSLContext | None = None) -> Trainer:
    """The trainer that `trainer.kind` names. `tls`: whom to trust beside the system's authorities.
    Raises ConfigError where its settings do not suffice."""
    # Imported here: the training process passes through this package and needs none of them.
    match config.kind:
        case "none":
            from proxy.loop.adapters.trainers.none import NoTrainer

            return NoTrainer()
        case "callable":
            from proxy.loop.adapters.trainers.local import CallableTrainer

            return CallableTrainer(config)
        case "command":
            from proxy.loop.adapters.trainers.local import CommandTrainer

            return CommandTrainer(config)
        case "http":
            from proxy.loop.adapters.trainers.http import HttpTrainer

            return HttpTrainer(config, tls)
        case "ray":
            from proxy.loop.adapters.trainers.ray import RayTrainer

            return RayTrainer(config, tls)
        case "openai":
            from proxy.loop.adapters.trainers.openai import OpenAITrainer

            return OpenAITrainer(config, tls)
        case "kubernetes":
            from proxy.loop.adapters.trainers.kubernetes import KubernetesTrainer

            return KubernetesTrainer(config, tls)
        case _:
            assert_never(config.kind)
