"""Deployers: one adapter a file, unaware of each other. `build_deployer` is the only place that knows them all."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import assert_never

from proxy.clock import Clock
from proxy.config.loop import DeployerConfig
from proxy.loop.adapters.deployers.command import CommandDeployer
from proxy.loop.adapters.deployers.http import HttpDeployer
from proxy.loop.adapters.deployers.static import StaticDeployer
from proxy.loop.adapters.deployers.vllm_lora import VllmLoraDeployer
from proxy.loop.ports import Deployer

__all__ = ["build_deployer"]


def build_deployer(
    config: DeployerConfig, data_dir: Path, clock: Clock | None = None, *, tls: ssl.SSLContext | None = None
) -> Deployer:
    """The deployer that `deployer.kind` names. `tls`: whom to trust beside the system's authorities.
    Raises ConfigError where its settings do not suffice."""
    match config.kind:
        case "static":
            return StaticDeployer(config, tls)
        case "command":
            return CommandDeployer(config, data_dir / "models", clock)
        case "http":
            return HttpDeployer(config, tls)
        case "vllm_lora":
            return VllmLoraDeployer(config, tls)
        case _:
            assert_never(config.kind)
