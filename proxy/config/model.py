"""The whole configuration as one value. Each table is a frozen dataclass with a line under every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from policies.intervals import Interval
from policies.scoring import ScoringConfig
from proxy.config import forms
from proxy.config.gate import ChecksConfig
from proxy.config.judge import JudgeConfig
from proxy.config.loop import DeployerConfig, LoopSettings, NotifyConfig, TrainerConfig
from proxy.config.open_webui import OpenWebUIConfig
from proxy.config.serving import (
    AdminConfig,
    CaptureConfig,
    ChampionConfig,
    GatewayConfig,
    ServerConfig,
    SpoolConfig,
    StickyConfig,
)
from proxy.config.storage import StoreConfig

__all__ = ["Config", "FeedbackConfig", "ScoringConfig", "TelemetryConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackConfig:
    """The side endpoint for thumbs, corrections and scores."""

    token: Annotated[str | None, forms.secret] = field(default=None, repr=False, metadata={"secret": True})
    """Bearer token for votes by provider id or client-chosen id, for scores, corrections, and votes of several people.
    None: only signed record ids are accepted. 16 characters or more where other machines reach server.host."""
    token_file: str | None = None
    """File that holds the token."""
    anonymous: tuple[Literal["thumb", "score", "correction"], ...] = ("thumb",)
    """What counts of a vote without the token: `thumb`, `score`, `correction`; the rest of it is kept as a comment is."""
    cors_origins: Annotated[tuple[str, ...], forms.origin] = ()
    """Origins whose pages may post votes, e.g. https://chat.example.com; `*` for any."""
    rate_per_second: Annotated[float, Interval("[0, inf)", "votes per second, 0 for no limit")] = 50.0
    """Votes per second per client address and worker; 429 over it. Whoever holds the token is not limited. 0: no limit."""
    max_batch: Annotated[int, Interval("[1, inf)", "a count")] = 1000
    """Votes in one request."""
    max_age_days: Annotated[float, Interval("(0, inf)", "days")] = 90.0
    """Votes for older records are refused with 410."""
    thumb_names: tuple[str, ...] = ("user-feedback", "user_feedback", "user_score", "thumb")
    """Scores of these names that clients of other systems send (Langfuse, LangSmith, MLflow, Phoenix, OTLP) are thumbs: true, 1, `up`, a number from 0.5 on; false, 0, -1, `down`."""
    score_names: tuple[str, ...] = ()
    """Scores of these names, from 0 to 1, are quality scores. Scores of other names are kept as comments, for only you know what they mean."""
    open_webui: OpenWebUIConfig = field(default_factory=OpenWebUIConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Metrics and logs of the proxy itself, and what is sent to a collector of OpenTelemetry's."""

    otel_names: bool = False
    """Export OpenTelemetry GenAI names beside ours (gen_ai_server_request_duration_seconds, …)."""
    otlp_endpoint: Annotated[str | None, forms.otlp_endpoint] = None
    """Base URL of a receiver of OTLP over HTTP, e.g. http://127.0.0.1:4318; spans, votes and scores are sent to it (/v1/traces, /v1/logs). `env`: as the environment variables OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS say. None: nothing is sent. Needs the extra `otel`."""
    otlp_headers: Annotated[str | None, forms.otlp_headers] = field(default=None, repr=False, metadata={"secret": True})
    """Headers of those requests, as OpenTelemetry writes them: name=value,name=value, where %20 stands for a space."""
    otlp_headers_file: str | None = None
    """File that holds otlp_headers."""
    otlp_signals: tuple[Literal["traces", "logs"], ...] = ("traces", "logs")
    """What is sent: `traces` are the requests, `logs` are votes and scores (events). Leave out what the receiver has no place for; several take traces alone."""
    otlp_sample: Annotated[float, Interval("[0, 1]", "a share of records")] = 1.0
    """Share of records that are sent, by a hash of their ids. What failed is always sent, and so is what people voted on, with the vote."""
    otlp_content: bool = False
    """Send the words, too: questions, answers, comments, the judge's reasons. Never those of a request that asked not to be trained on."""
    otlp_max_age_seconds: Annotated[float, Interval("[60, inf)", "seconds")] = 3600.0
    """What could not be sent for so long is left out and counted; until then it waits in the store, and a restart goes on where it was."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error."""
    log_format: Literal["text", "json"] = "text"
    """text, or json (one object a line)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(LoopSettings):
    """Everything `ratchet serve` can be told. Defaults are safe on a laptop; only `champion.url` has none."""

    server: ServerConfig = field(default_factory=ServerConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    champion: ChampionConfig = field(default_factory=ChampionConfig)
    sticky: StickyConfig = field(default_factory=StickyConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    deployer: DeployerConfig = field(default_factory=DeployerConfig)
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)

    @property
    def training_dir(self) -> Path:
        """Where the runs' directories are, with their training data: `trainer.directory`, or in the data directory."""
        named = self.trainer.directory
        own = Path(self.server.data_dir) / "training" if named is None else Path(named)
        return own.expanduser().absolute()
