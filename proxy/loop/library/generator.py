"""Training files from a usage log, without a loop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.selection import DataGeneratorConfig
from proxy.clock import Clock, SystemClock
from proxy.loop.library.usage import UsageLogger, settled

if TYPE_CHECKING:
    from proxy.loop.library.usage_store import UsageStore

__all__ = ["TrainingDataGenerator"]


class TrainingDataGenerator:
    """Writes training files from a usage log, without a loop."""

    def __init__(
        self,
        logger: UsageLogger | str | Path,
        config: DataGeneratorConfig | None = None,
        *,
        output_dir: str | Path = "ratchet-data/training",
        clock: Clock | None = None,
    ) -> None:
        self._logger = logger if isinstance(logger, UsageLogger) else UsageLogger(logger, clock=clock)
        self._config = config or DataGeneratorConfig()
        self._output_dir = Path(output_dir).expanduser().absolute()
        self._clock = clock or SystemClock()

    def generate(self, name: str | None = None) -> dict[str, Any]:
        """Write `<output_dir>/<name>/data.jsonl` from everything logged so far; returns the manifest.

        {"data_path", "samples", "holdout_samples", "rehearsal_samples", "seen", "dropped": {reason: n}, "sha256", …}.
        The same name again gives the file that is there already.
        """
        from proxy.config.load import fingerprint
        from proxy.loop.dataset import StoreDatasetBuilder
        from proxy.loop.ports import DatasetRequest

        now = self._clock.now()
        run_id = name or f"data-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S-%f}"
        request = DatasetRequest(run_id=run_id, until_s=now + 1.0, config_fingerprint=fingerprint(self._config))

        async def build(usage: UsageStore) -> dict[str, Any]:
            builder = StoreDatasetBuilder(usage.store.samples, self._config, self._output_dir)
            return (await builder.build(request)).as_json()

        return self._logger.background.run(settled(build))

    def close(self) -> None:
        """Close the usage log. Safe to repeat."""
        self._logger.close()
