"""A check by itself, in memory: for a person at a terminal, and for the CI of models.

It needs two endpoints and a golden file, or one endpoint and a store with the champion's conversations; nothing is
written, and no loop hears of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from policies.gate import CheckReport
from policies.rows import Model
from proxy.checks.gate import weigher_of
from proxy.checks.golden import GoldenFile, golden_of
from proxy.checks.ledger import MemoryLedger
from proxy.checks.plan import CheckPlan
from proxy.checks.ports import AskedModel
from proxy.checks.prompts import Prompts, recorded
from proxy.checks.runner import Runner
from proxy.checks.tally import most_asked
from proxy.checks.weighing import Weigher
from proxy.clock import Clock
from proxy.config import Config
from proxy.config.authorities import trusting
from proxy.errors import ConfigError
from proxy.judge.build import make_judge
from proxy.judge.ports import Judge
from proxy.store.control.comparisons import ComparedRow
from proxy.store.store import Store

__all__ = ["CheckedModel", "Wanted", "run_alone"]

_PATIENCE_S = 15.0
"""How long a server may be away: somebody waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who is compared with whom."""

    challenger: AskedModel
    champion: AskedModel | None
    """Who is asked the golden cases, too."""
    store: Store | None = None
    logged: Model | None = None
    """The champion of the store, whose logged answers count."""
    trained: Model | None = None
    """The challenger, where it is a model of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedModel:
    """What came of it."""

    report: CheckReport
    cases: GoldenFile | None
    rows: dict[str, ComparedRow]
    """By item, with texts."""


async def run_alone(config: Config, wanted: Wanted, clock: Clock) -> CheckedModel:
    """Run a check to its end. Raises ConfigError where there is nothing to ask, or the golden file is wrong;
    TemporaryError while the store is away."""
    judge = make_judge(config.judge, trusting(config.champion.ca_file))
    try:
        plan = await _plan(config, wanted, judge, clock)
        ledger = MemoryLedger()
        runner = Runner(plan, ledger, clock)
        report = await runner.run()
    finally:
        if judge is not None:
            await judge.close()
    if runner.silent:
        report = CheckReport(reasons=(runner.silent,), counts=report.counts)
    return CheckedModel(report=report, cases=plan.cases, rows=ledger.kept)


async def _plan(config: Config, wanted: Wanted, judge: Judge | None, clock: Clock) -> CheckPlan:
    checks, store, now = config.checks, wanted.store, clock.now()
    cases = golden_of(config)
    weigher = await weigher_of(config, judge, store)
    prompts = None
    if store is not None and wanted.logged is not None and checks.replays:
        prompts = Prompts(
            store,
            champion=wanted.logged,
            challenger=wanted.trained,
            salt=hashlib.blake2b(f"{now} {wanted.challenger.url}".encode(), digest_size=16).digest(),
            until_us=int(now * 1e6),
            days=checks.days,
            most=most_asked(checks, "visible" if weigher is None else weigher.by),
            holdout_share=config.generator_config.holdout_share,
            model_name=checks.model_name,
        )
    if prompts is None and cases is None:
        raise ConfigError(
            "there is nothing to ask: give a golden file (--golden FILE), or --config or --data-dir of an install "
            "whose champion has answered something"
        )
    warm_up = [] if store is None or prompts is None else await recorded(store, config.deployer.warmup_requests)
    return CheckPlan(
        tls=trusting(config.champion.ca_file),
        challenger=wanted.challenger,
        champion=wanted.champion,
        config=checks,
        scoring=config.scoring,
        cases=cases,
        conversations=prompts,
        weigher=weigher,
        rubrics=None if judge is None else Weigher(judge, "scores"),
        warm_up=warm_up,
        deadline_s=now + 60 * checks.time_limit_minutes,
        patience_s=_PATIENCE_S,
    )
