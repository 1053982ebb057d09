"""Settings of the learning loop. The table names are the quick start's own, in TOML as in JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from policies.experiment import ABTestConfig
from policies.intervals import Interval
from policies.selection import DataGeneratorConfig
from policies.triggers import TriggerConfig
from proxy.config import forms

__all__ = ["DeployerConfig", "LoopConfig", "LoopSettings", "NotifyConfig", "TrainerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What the loop does and when; shared by the service and the library."""

    check_interval_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 3600.0
    """Seconds between two looks when nothing pokes the loop. Every look may decide; peeking is paid for in the statistics."""
    enable_ab_testing: bool = True
    """Test a new model on a share of the users first. Off: it goes straight to production, journalled all the same."""
    enable_auto_promotion: bool = True
    """Promote without a person. Off: a challenger that has won waits for `ratchet promote`."""
    trigger_config: TriggerConfig = field(default_factory=TriggerConfig)
    generator_config: DataGeneratorConfig = field(default_factory=DataGeneratorConfig)
    ab_test_config: ABTestConfig = field(default_factory=ABTestConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig(LoopSettings):
    """Settings of the loop as a library (no HTTP). The quick start's names."""

    db_path: str = "ratchet-data/ratchet.db"
    """The SQLite database that the usage logger writes and the loop reads."""
    output_dir: str = "ratchet-data/training"
    """Where training files and manifests go."""
    models_dir: str = "ratchet-data/models"
    """Where a training function may put its models."""
    champion_name: str = "champion"
    """Name of the model that serves before the first promotion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """What trains a model. `kind` chooses; the fields of the other kinds are ignored."""

    kind: Literal["none", "callable", "command", "http", "ray", "openai", "kubernetes"] = "none"
    """none prepares data and stops there."""
    callable: Annotated[str | None, forms.import_path] = None
    """kind = callable: `package.module:train_model`, called with the data file's path in a process of its own."""
    command: tuple[str, ...] = ()
    """kind = command: argv; {data_path}, {output_dir}, {run_id}, {result_path} are filled in. Writes its result as JSON to {result_path}."""
    url: Annotated[str | None, forms.base_url] = None
    """kind = http: POST starts a run, GET {url}/{run_id} polls it, DELETE cancels. kind = ray: Jobs API. kind = openai: API base. kind = kubernetes: API server."""
    token_file: str | None = None
    """File with a bearer token for `url`."""
    directory: str | None = None
    """Where training data and results go, one directory per run. None: `training` in the data directory. Several hosts: one that all of them mount."""
    timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 86400.0
    """A run that takes longer is cancelled and has failed."""
    poll_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 5.0
    """Seconds between two looks at a running training."""
    options: dict[str, str] = field(default_factory=dict)
    """Extra settings of the chosen kind; see docs/reference/trainers.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployerConfig:
    """What turns a model path into an endpoint that answers requests."""

    kind: Literal["static", "command", "http", "vllm_lora"] = "static"
    """static: `url` already serves whatever was trained (or the result of training names its own `url`)."""
    url: Annotated[str | None, forms.base_url] = None
    """kind = static or vllm_lora: base URL of the challenger's server. kind = http: webhook."""
    urls: Annotated[tuple[str, ...], forms.base_url] = ()
    """kind = vllm_lora: every replica, when there are several behind `url`."""
    command: tuple[str, ...] = ()
    """kind = command: argv of a model server; {model_path}, {port}, {model_id} are filled in."""
    health_path: Annotated[str, forms.path] = "/health"
    """GET on it must answer 2xx before a user is sent there."""
    ready_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 600.0
    """A model that is not healthy by then has failed to deploy."""
    retries: Annotated[int, Interval("[0, inf)", "a count")] = 3
    """Further deployments of a model that did not come up for a reason that may pass (not healthy in time, its server ended), each after a longer wait, before its run has failed. `ratchet deploy RUN` tries again later."""
    warmup_requests: Annotated[int, Interval("[0, inf)", "a count")] = 3
    """Recorded requests that a fresh model answers before its first user: loading and compiling are not charged to it, and one that answers none has failed to deploy. 0: none."""
    token_file: str | None = None
    """File with a bearer token for the webhook or the model server's admin calls."""
    options: dict[str, str] = field(default_factory=dict)
    """Extra settings of the chosen kind; see docs/reference/deployers.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """Webhooks on phase changes and decisions."""

    urls: Annotated[tuple[str, ...], forms.http_url] = ()
    """Each gets a POST in its own form; failures are retried and never hold the loop."""
    kinds: tuple[
        Literal["auto", "json", "slack", "mattermost", "discord", "teams", "google_chat", "alertmanager"], ...
    ] = ()
    """Form of what each URL gets, in the order of `urls`: `json` are our own fields, `alertmanager` is an alert (POST /api/v2/alerts), the others are messages for people. `auto`, also for those not named: by the URL, json where it tells nothing."""
    console_url: Annotated[str | None, forms.base_url] = None
    """Where people reach the console, e.g. https://ratchet.example.com; messages link to its page. None: no link."""
    timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 10.0
    """Per delivery."""
