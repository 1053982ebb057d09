"""A model must not feed on itself: what models trained here wrote is bounded across promotions, through the library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy import (
    ABTestConfig,
    ContinuousLearningLoop,
    DataGeneratorConfig,
    LoopConfig,
    TrainingDataGenerator,
    TriggerConfig,
)
from proxy.clock import ManualClock
from proxy.loop.ports import Manifest

DATA = DataGeneratorConfig(deduplicate=False, holdout_share=0.0)
FEW = "left out of the last dataset: {} own_share (generator_config.max_own_share: models trained here wrote them)"


class Shop:
    """A library's loop whose new models serve at once, and a clock that is moved by hand."""

    def __init__(self, root: Path, data: DataGeneratorConfig, needed: int = 5) -> None:
        self.clock = ManualClock(1_700_000_000)
        self.root = root
        self.said = 0
        config = LoopConfig(
            db_path=str(root / "usage.db"),
            output_dir=str(root / "training"),
            models_dir=str(root / "models"),
            enable_ab_testing=False,
            ab_test_config=ABTestConfig(watch_hours=0.0, min_samples_per_version=1),
            trigger_config=TriggerConfig(min_new_samples=10_000, min_usable_samples=needed, enable_scheduled=False),
            generator_config=data,
        )
        self.loop = ContinuousLearningLoop(config, clock=self.clock)
        self.loop.run_iteration()
        self.champion = config.champion_name

    def log(self, count: int, **vote: Any) -> None:
        """So many answers of the champion."""
        for _ in range(count):
            self.clock.advance(1)
            self.said += 1
            texts = f"question {self.said}", f"answer {self.said}"
            record = self.loop.log_usage(*texts, self.champion, quality_score=0.9, user=f"user {self.said}")
            if vote:
                self.loop.record_feedback(record, **vote)

    def promote(self) -> str:
        """Train, and let the new model serve; returns its name."""
        before = self.champion
        self.retrain()
        self.champion = self.loop.get_status_summary()["status"]["champion_model"]
        assert self.champion != before
        return self.champion

    def retrain(self) -> dict[str, Any]:
        """Once the last promotion is no longer watched; what came of it."""
        self.clock.advance(60)
        self.loop.run_iteration(self.train)
        return self.loop.trigger(self.train)

    def train(self, data_path: str) -> dict[str, Any]:
        path = self.root / "models" / f"of-{Path(data_path).parent.name}"
        path.write_text("weights")
        return {"model_path": str(path)}

    def manifest(self, data: DataGeneratorConfig = DATA) -> Manifest:
        """Of a training file of everything."""
        generator = TrainingDataGenerator(self.loop.logger, data, output_dir=self.root / "data", clock=self.clock)
        return Manifest.of(generator.generate())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, DATA)
    yield made
    made.loop.close()


def test_after_a_promotion_at_most_half_of_the_lines_are_the_promoted_models(shop: Shop) -> None:
    shop.log(10)
    promoted = shop.promote()
    shop.log(60)
    manifest = shop.manifest()
    assert manifest.models == {"champion": 10, promoted: 10}
    assert manifest.dropped == {"own_share": 50}
    assert manifest.authors == {"person": 0, "elsewhere": 10, "own": 10}
    assert manifest.generations == {"0": 10, "1": 10}
    assert manifest.ancestry == "50 % by models trained here, 1 generation"
    assert manifest.seen == manifest.records + 50 == 70


def test_the_share_counts_every_model_that_was_trained_here(shop: Shop) -> None:
    """Two promotions later, the answers of the first trained model are still our own."""
    shop.log(20)
    first = shop.promote()
    shop.log(15)
    second = shop.promote()
    shop.log(15)
    manifest = shop.manifest()
    assert manifest.models == {"champion": 20, first: 5, second: 15}
    assert manifest.generations == {"0": 20, "1": 5, "2": 15}
    assert manifest.ancestry == "50 % by models trained here, 2 generations"
    lineage = [line.split(",") for line in (Path(manifest.data_path).parent / "lineage.csv").read_text().splitlines()]
    assert lineage[0] == ["record_id", "user", "split", "line", "model", "generation", "author", "vote", "preferred"]
    assert [row[3] for row in lineage[1:]] == [str(n) for n in range(1, 41)]
    assert {(row[4], row[5], row[6]) for row in lineage[1:]} == {
        ("champion", "0", "elsewhere"), (first, "1", "own"), (second, "2", "own"),
    }  # fmt: skip


def test_corrections_are_peoples_whoever_was_corrected(shop: Shop) -> None:
    shop.log(10)
    shop.promote()
    shop.log(30, feedback=-1, correction="What it should have been.")
    manifest = shop.manifest(replace(DATA, max_correction_share=1.0))
    assert manifest.authors == {"person": 30, "elsewhere": 10, "own": 0}
    assert manifest.dropped == {}
    assert manifest.ancestry == ""


def test_a_loop_with_too_little_that_is_not_its_own_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path, DATA, needed=30)
    try:
        shop.log(30)
        shop.promote()
        few = LoopConfig(
            db_path=shop.loop.config.db_path,
            output_dir=shop.loop.config.output_dir,
            models_dir=shop.loop.config.models_dir,
            enable_ab_testing=False,
            ab_test_config=ABTestConfig(watch_hours=0.0, min_samples_per_version=1),
            trigger_config=TriggerConfig(min_new_samples=10_000, min_usable_samples=100, enable_scheduled=False),
            generator_config=DATA,
        )
        shop.log(60)
        shop.loop.close()
        shop.loop = ContinuousLearningLoop(few, clock=shop.clock)
        retrain = shop.retrain()["retrain"]
        assert retrain["status"] == "too_few_samples"
        assert FEW.format(30) in json.dumps(retrain)
        shop.clock.advance(7200)
        shop.loop.trigger(shop.train)
        assert FEW.format(30) in json.dumps(shop.loop.get_status_summary())
    finally:
        shop.loop.close()
