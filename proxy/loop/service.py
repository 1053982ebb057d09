"""The loop as the controller runs it: put together from the configuration, on the data directory's files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from policies.facts import JudgeFacts
from policies.plan import LoopRules
from proxy.checks.gate import CredentialHeader, ReplayGate
from proxy.clock import Clock
from proxy.config import Config
from proxy.config.authorities import trusting
from proxy.config.load import fingerprint, public_document
from proxy.credentials import CREDENTIALS_FILE, CredentialFile
from proxy.judge.build import scorer_of
from proxy.loop.act.install import BaseModel
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.adapters.deployers.brought import WithBrought
from proxy.loop.adapters.deployers.health import trusts_unseen
from proxy.loop.adapters.messages import targets_of
from proxy.loop.adapters.notify import NoNotifier, WebhookNotifier
from proxy.loop.adapters.probe import HttpProbe
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.build import LoopPorts, assemble, rules_of
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.ports import LoopTroubles
from proxy.loop.tick import Loop
from proxy.routes import ROUTES_FILE
from proxy.store.store import Store

__all__ = ["open_loop", "service_rules"]


def service_rules(config: Config) -> LoopRules:
    """The rules that the whole configuration gives."""
    return replace(
        rules_of(config, trains=config.trainer.kind != "none"),
        poll_s=config.trainer.poll_seconds,
        training_timeout_s=config.trainer.timeout_seconds,
        ready_timeout_s=config.deployer.ready_timeout_seconds,
        deployment_retries=config.deployer.retries,
        undecided=config.checks.undecided,
    )


def _credentials(config: Config, data_dir: Path) -> CredentialHeader:
    """The API keys of models, as this host has them when they are asked for."""
    file = CredentialFile(data_dir / CREDENTIALS_FILE, config.champion)

    def header(name: str, url: str) -> tuple[str, str] | None:
        with suppress(OSError, ValueError):  # workers say so, and go on with what they have read
            file.refresh()
        return file.header(name, url)

    return header


def _judge(config: Config) -> JudgeFacts | None:
    """The judge of the settings, which does not count as long as nobody has looked."""
    scorer = scorer_of(config.judge)
    return None if scorer is None else JudgeFacts(scorer=scorer, counts=False, trust=config.judge.trust)


@asynccontextmanager
async def open_loop(
    config: Config,
    store: Store,
    clock: Clock,
    *,
    metrics: LoopMetrics | None = None,
    troubles: LoopTroubles | None = None,
) -> AsyncIterator[Loop]:
    """A loop on an open store; `run` it, `poke` it, ask its `status`. Its notifier is stopped at the end.

    Raises ConfigError where the trainer's or deployer's settings do not suffice.
    """
    data_dir = Path(config.server.data_dir).expanduser().absolute()
    training_dir = config.training_dir
    mark = fingerprint(config)
    version = await store.configs.add(mark, public_document(config))
    targets = targets_of(config.notify.urls, config.notify.kinds, config.notify.console_url)
    notifier = WebhookNotifier(targets, timeout_s=config.notify.timeout_seconds) if targets else NoNotifier()
    tls = trusting(config.champion.ca_file)
    probe = HttpProbe(trusting=trusts_unseen(config.deployer), tls=tls)
    deployer = build_deployer(config.deployer, data_dir, clock, tls=tls)
    gate = ReplayGate(store, config, _credentials(config, data_dir), clock)
    datasets = StoreDatasetBuilder(store.samples, config.generator_config, training_dir)
    loop = assemble(
        store=store,
        clock=clock,
        rules=service_rules(config),
        ports=LoopPorts(
            datasets=datasets,
            trainer=build_trainer(config.trainer, tls),
            deployer=WithBrought(deployer, probe),
            gate=gate,
            probe=probe,
            notifier=notifier,
        ),
        base=BaseModel.of(config.champion),
        training_dir=training_dir,
        routes_path=data_dir / ROUTES_FILE,
        selection=config.generator_config,
        drain_s=config.server.drain_seconds,
        config_id=version.id,
        fingerprint=mark,
        metrics=metrics,
        building=lambda: datasets.building,
        open_scores="score" in config.feedback.anonymous,
        judge=_judge(config),
        scored=bool(config.capture.quality_pointers),
        troubles=troubles,
    )
    if isinstance(notifier, WebhookNotifier):
        notifier.start()
    try:
        yield loop
    finally:
        await gate.close()
        if isinstance(notifier, WebhookNotifier):
            await notifier.close()
