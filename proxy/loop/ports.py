"""What the loop asks of the outside: a dataset builder, a trainer, a deployer, a notifier.

Narrow on purpose, and every effect is safe to do twice: the loop calls `start`, `deploy` and `build` again with
the same id after a crash, and must get the run that is already there. A handle is a small JSON object that the
adapter alone understands; the loop keeps it in the store, so that a restarted controller can go on with it.

`TemporaryError` means "ask again later", `PermanentError` "give up and say why"; anything else is the adapter's
bug and is treated as temporary, with a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from policies.rows import Check, Model
from policies.snapshot import CheckView

__all__ = ["DatasetBuilder", "DatasetRequest", "DeployFailed", "Deployer", "Endpoint", "Failed",
           "Gate", "Handle", "Manifest", "NotReady", "Notifier", "Probe", "Readiness", "Running", "Succeeded",
           "Trainer", "TrainingRun", "TrainingStatus"]  # fmt: skip

Handle: TypeAlias = dict[str, Any]
"""What an adapter needs to find its work again; JSON-serialisable, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRequest:
    """Which records become the training file of a run."""

    run_id: str
    """Names the folder; the same id again gives the dataset that is already there."""
    until_s: float
    """Records that arrived before this instant (Unix seconds); fixes the content across repeated builds."""
    config_fingerprint: str
    """Which settings were in force; goes into the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a training file, and what was left out and why."""

    run_id: str
    data_path: str
    """The training file (JSONL)."""
    holdout_path: str | None
    """The evaluation file, or None when no user fell into it."""
    samples: int
    """Lines in the training file, rehearsal lines included."""
    holdout_samples: int
    rehearsal_samples: int
    """Lines of the training file that come from the rehearsal buffer."""
    seen: int
    """Records looked at: those that are used and those that are dropped."""
    rehearsal_malformed: int = 0
    """Lines of the rehearsal buffer that are not in the format."""
    records: int = 0
    """Records used: those in a line of the training file or of the holdout file. Pairs are of two, a correction in
    format kto makes two lines."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Records left out, each under one reason: `seen` is `records` and all of these."""
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Ids of the newest 20 records that were left out for a reason."""
    sha256: str = ""
    """Of the training file, hex."""
    format_type: str = "chatml"
    first_record_id: str | None = None
    """Oldest record in the file (UUID hex)."""
    last_record_id: str | None = None
    config_fingerprint: str = ""
    models: Mapping[str, int] = field(default_factory=dict)
    """Lines per model that answered, rehearsal lines aside."""
    authors: Mapping[str, int] = field(default_factory=dict)
    """Those lines by who wrote what is learnt: `person` (a correction), `own` (a model that was trained here),
    `elsewhere` (one that was not)."""
    generations: Mapping[str, int] = field(default_factory=dict)
    """Lines that a model wrote, by how many trainings of this installation lie behind it."""
    liked: int = 0
    """Lines whose answer people voted up."""
    preferred: int = 0
    """Lines from two answers that people compared side by side."""
    regenerated: int = 0
    """Lines from an answer that a user had made anew, and the one that was kept."""
    reasoning: Mapping[str, Any] = field(default_factory=dict)
    """`lines`: those in whose conversation a model thought aloud; `kept`: whether they were written with it."""
    bytes: int = 0
    """Size of the training file."""
    tokens: int = 0
    """Tokens of the training file, once over it."""
    tokens_by: str = ""
    """What counted them: a tokenizer, or characters / 4."""
    estimated_cost: float | None = None
    """Of one training over these tokens; None without `generator_config.cost_per_million_tokens`."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Manifest:
        """What is in manifest.json; that of an older version lacks fields."""
        return cls(**{item.name: content[item.name] for item in fields(cls) if item.name in content})

    @property
    def ancestry(self) -> str:
        """How much of the training file models trained here wrote, in words; empty where that is nothing."""
        own, lines = self.authors.get("own", 0), self.samples - self.rehearsal_samples
        if not own or lines <= 0:
            return ""
        oldest = max((int(generation) for generation in self.generations), default=1)
        return f"{round(100 * own / lines)} % by models trained here, {oldest} generation{'s' if oldest != 1 else ''}"

    def as_json(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return asdict(self)


class DatasetBuilder(Protocol):
    """Selects logged exchanges and writes them as a training file."""

    async def build(self, request: DatasetRequest) -> Manifest:
        """Write data.jsonl, holdout.jsonl and manifest.json of `request.run_id`, or return what is already there.

        A dataset with few or no samples is no error: the loop judges `samples`.
        Raises TemporaryError (disk full, store down), PermanentError (a rehearsal file that does not exist).
        """
        ...

    async def discard(self, run_id: str) -> None:
        """Remove the data files of a run that has succeeded; the manifest stays. Safe to repeat."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One training, as an adapter sees it."""

    run_id: str
    data_path: Path
    holdout_path: Path | None
    output_dir: Path
    """A folder of this run's own: log, result and progress files go here."""
    champion: str
    """Name of the model to start from or to beat."""
    timeout_s: float
    """The adapter need not watch this; the loop cancels a run that takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The training goes on."""

    progress: float | None = None
    """Done so far (0 to 1); None where unknown."""
    message: str = ""
    quotes: bool = field(default=False, compare=False)
    """Whether `message` is the training's own words, which may quote samples: it is shown, and written down nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The training has ended well."""

    result: Mapping[str, Any]
    """What the training returned: `model_path`, optionally `url` and `model`, and metrics; JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The training has ended badly."""

    reason: str
    """One readable sentence, with the end of the log where there is one."""
    kept: str | None = field(default=None, compare=False)
    """The same without what the training itself said, which may quote samples: what the loop writes down. The whole of
    `reason` is kept in the run's folder. None: there is nothing of that in it."""

    @property
    def written(self) -> str:
        """What may stand in journal, state and notifications."""
        return self.reason if self.kept is None else f"{self.kept}; the run's folder has more, in failure.txt"


TrainingStatus: TypeAlias = Running | Succeeded | Failed


class Trainer(Protocol):
    """Turns a training file into a model."""

    @property
    def kind(self) -> str:
        """The `trainer.kind` of the settings; `none` prepares data and stops there."""
        ...

    async def start(self, run: TrainingRun) -> Handle:
        """Start training, or return the handle of the run with this id that is already going on or has ended."""
        ...

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """How it goes. Quick (under a second or two) and without side effects."""
        ...

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Stop it and whatever it started; safe to repeat, and after its end."""
        ...

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """After a restart of the controller: True when the run (still going on, or ended) was found again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a deployed model answers."""

    url: str
    """Base URL."""
    model: str | None = None
    """What the JSON `model` field of requests must say; None leaves the client's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReady:
    """Deployed, but not answering yet."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployFailed:
    """It will never answer."""

    reason: str
    kept: str | None = field(default=None, compare=False)
    """The same without what the model or its server said, which may quote requests: what the loop writes down. None:
    there is nothing of that in it."""
    may_pass: bool = field(default=False, compare=False)
    """Another deployment of the same model may come up, as where there was no memory for it just then: it is tried
    again, `deployer.retries` times."""

    @property
    def written(self) -> str:
        """What may stand in journal, state and notifications."""
        return self.reason if self.kept is None else self.kept


Readiness: TypeAlias = Endpoint | NotReady | DeployFailed


class Deployer(Protocol):
    """Turns a model path into an endpoint that answers requests."""

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Start serving the model, or return the handle of the deployment of `model_id` that is already there.

        `detail` is the result of the training. Raises PermanentError where `model_path` does not exist.
        """
        ...

    async def ready(self, handle: Handle) -> Readiness:
        """Whether it answers by now."""
        ...

    async def healthy(self, handle: Handle) -> bool:
        """Whether a deployment that was ready still answers."""
        ...

    async def ensure(self, handle: Handle) -> Handle:
        """Bring back what a restart (of us or of the model server) has lost; returns the handle to keep."""
        ...

    async def retire(self, handle: Handle) -> None:
        """Stop serving and give resources back; safe to repeat."""
        ...


class Gate(Protocol):
    """Compares a challenger with the champion before users see it: on old questions, or on copies of live requests."""

    async def poll(self, check: Check, challenger: Model, champion: Model, *, paused: bool) -> CheckView:
        """How far the check is, and what it has found. It begins with the first question, and goes on where a process
        that was killed has left it; what is kept in the store is not asked again. Quick: the work is done meanwhile.

        `paused`: nothing new is asked until a poll without it; what is in flight ends.
        """
        ...

    async def cancel(self, check_id: int) -> None:
        """Nobody wants to know any more; safe to repeat, and for a check that is not under way."""
        ...


class Notifier(Protocol):
    """Tells people what happened. Never raises, never delays the loop."""

    def notify(self, event: Mapping[str, Any]) -> None:
        """Queue one event for delivery: a document as `proxy.loop.act.events` makes them."""
        ...


class LoopTroubles(Protocol):
    """Is told what keeps the loop from its work, and when that is over."""

    def report(self, topic: Literal["loop", "routes"], sentence: str, *, quiet: bool = False) -> None:
        """It is so; `quiet`: it has been logged."""
        ...

    def over(self, topic: Literal["loop", "routes"], how: str = "well again") -> None:
        """It was seen to work."""
        ...


class Probe(Protocol):
    """Asks a model that was not deployed by us whether it is alive."""

    async def answers(self, url: str) -> bool:
        """Whether a server at the base URL answers at all."""
        ...
