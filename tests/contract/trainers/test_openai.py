"""The OpenAI trainer against a small server that speaks `/files` and `/fine_tuning/jobs` as the API reference has them.

It is not OpenAI: no account, no money, no key.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.trainers import build_trainer, openai
from proxy.loop.ports import Failed, Running, Succeeded, Trainer, TrainingRun
from tests.harness.webserver import serving

CHAT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


class Provider:
    """Files and fine-tuning jobs, newest first, two to a page."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.states: list[dict[str, Any]] = []
        """What a file is, look by look; the last one stays. Empty: this provider does not tell."""
        self.looks = 0
        self.url = ""
        self.app = Starlette(
            routes=[
                Route("/v1/files", self.upload, methods=["POST"]),
                Route("/v1/files/{file}", self.file),
                Route("/v1/fine_tuning/jobs", self.create, methods=["POST"]),
                Route("/v1/fine_tuning/jobs", self.list, methods=["GET"]),
                Route("/v1/fine_tuning/jobs/{job}", self.look),
                Route("/v1/fine_tuning/jobs/{job}/cancel", self.cancel, methods=["POST"]),
            ]
        )

    async def upload(self, request: Request) -> Response:
        self.tokens.add(request.headers.get("authorization"))
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        form = message_from_bytes(head + await request.body(), policy=HTTP)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        assert parts["purpose"].get_payload() == "fine-tune"
        name = f"file-{len(self.files) + 1}"
        content = parts["file"].get_payload(decode=True)
        assert isinstance(content, bytes)
        self.files[name] = (str(parts["file"].get_filename()), content)
        return JSONResponse({"id": name, "object": "file", "purpose": "fine-tune", "status": "uploaded"})

    async def file(self, request: Request) -> Response:
        if not self.states:
            return JSONResponse({"error": {"message": "no such route"}}, 404)
        self.looks += 1
        assert not self.jobs, "no job is made before its files are processed"
        return JSONResponse({"id": request.path_params["file"], **self.states[min(self.looks, len(self.states)) - 1]})

    async def create(self, request: Request) -> Response:
        order = await request.json()
        if order["model"] == "unknown":
            return JSONResponse({"error": {"message": "The model `unknown` does not exist"}}, 404)
        self.jobs.insert(0, {**order, "id": f"ftjob-{len(self.jobs) + 1}", "status": "validating_files"})
        return JSONResponse(self.jobs[0])

    async def list(self, request: Request) -> Response:
        ids = [job["id"] for job in self.jobs]
        start = ids.index(request.query_params["after"]) + 1 if "after" in request.query_params else 0
        page = self.jobs[start : start + 2]
        return JSONResponse({"object": "list", "data": page, "has_more": start + 2 < len(self.jobs)})

    async def look(self, request: Request) -> Response:
        job = self._job(request)
        return JSONResponse({"error": {"message": "no such job"}}, 404) if job is None else JSONResponse(job)

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        if job is None:
            return JSONResponse({"error": {"message": "no such job"}}, 404)
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return JSONResponse({"error": {"message": f"Job has already {job['status']}"}}, 400)
        job["status"] = "cancelled"
        return JSONResponse(job)

    def _job(self, request: Request) -> dict[str, Any] | None:
        return next((job for job in self.jobs if job["id"] == request.path_params["job"]), None)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    service = Provider()
    async with serving(service.app) as url:
        service.url = f"{url}/v1"
        yield service


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    (tmp_path / "data.jsonl").write_text(CHAT)
    return TrainingRun(
        run_id="run-1",
        data_path=tmp_path / "data.jsonl",
        holdout_path=None,
        output_dir=tmp_path,
        champion="champion",
        timeout_s=60.0,
    )


def trainer_of(provider: Provider, **options: str) -> Trainer:
    return build_trainer(TrainerConfig(kind="openai", url=provider.url, options={"model": "gpt-4.1-mini", **options}))


async def test_a_fine_tuning_from_upload_to_model(provider: Provider, run: TrainingRun, tmp_path: Path) -> None:
    (tmp_path / "holdout.jsonl").write_text(CHAT * 2)
    trainer = trainer_of(provider, suffix="ratchet", n_epochs="3", url="https://api.example.com")
    handle = await trainer.start(replace(run, holdout_path=tmp_path / "holdout.jsonl"))
    job = provider.jobs[0]
    assert provider.files[job["training_file"]] == ("run-1-data.jsonl", CHAT.encode())
    assert provider.files[job["validation_file"]] == ("run-1-holdout.jsonl", CHAT.encode() * 2)
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    assert job["suffix"] == "ratchet"
    assert await trainer.poll("run-1", handle) == Running(message="validating files")
    job.update(status="succeeded", fine_tuned_model="ft:gpt-4.1-mini:ratchet", trained_tokens=42)
    assert await trainer.poll("run-1", handle) == Succeeded(
        result={
            "model_path": "openai://ft:gpt-4.1-mini:ratchet",
            "model": "ft:gpt-4.1-mini:ratchet",
            "job_id": "ftjob-1",
            "trained_tokens": 42,
            "url": "https://api.example.com",
        }
    )


async def test_a_start_that_was_never_written_down_is_found_among_the_jobs(
    provider: Provider, run: TrainingRun
) -> None:
    handle = await trainer_of(provider).start(run)
    for n in range(5):
        await trainer_of(provider).start(replace(run, run_id=f"run-{n + 2}"))
    assert await trainer_of(provider).start(run) == handle
    assert len(provider.jobs) == 6
    assert await trainer_of(provider).adopt("run-1", handle)
    assert not await trainer_of(provider).adopt("run-0", {"kind": "openai"})


async def test_preference_pairs_are_rewritten(provider: Provider, run: TrainingRun) -> None:
    prompt, good, bad = ([{"role": "user", "content": text}] for text in ("Hi", "Hello", "Go away"))
    run.data_path.write_text(json.dumps({"prompt": prompt, "chosen": good, "rejected": bad}) + "\n")
    await trainer_of(provider).start(run)
    _, content = provider.files["file-1"]
    expected = {"input": {"messages": prompt}, "preferred_output": good, "non_preferred_output": bad}
    assert [json.loads(line) for line in content.splitlines()] == [expected]
    assert provider.jobs[0]["method"]["type"] == "dpo"


ASKED = {"role": "user", "content": "Hi"}
TOOLS = [{"type": "function", "function": {"name": "look"}}]


def calls(arguments: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


RESULT = {"role": "tool", "tool_call_id": "c1", "content": "21"}
SAID = {"role": "assistant", "content": "21."}
SEEN = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        pytest.param(
            {"prompt": [ASKED, calls({"at": "é"}), {**RESULT, "name": "look"}], "completion": [SAID], "tools": TOOLS},
            {
                "messages": [ASKED, {**calls('{"at": "é"}'), "weight": 0}, {**RESULT, "name": "look"}, SAID],
                "tools": TOOLS,
            },
            id="prompt and completion become messages, of which the last is learnt",
        ),
        pytest.param(
            {"prompt": [ASKED], "chosen": [calls({})], "rejected": [SAID], "tools": TOOLS},
            {
                "input": {"messages": [ASKED], "tools": TOOLS},
                "preferred_output": [calls("{}")],
                "non_preferred_output": [SAID],
            },
            id="tools stand with the input",
        ),
        pytest.param(
            {"messages": [ASKED, {**SAID, "weight": 0, "reasoning_content": "hm"}, ASKED, SAID]},
            {"messages": [ASKED, {**SAID, "weight": 0}, ASKED, SAID]},
            id="thoughts go, weights stay",
        ),
        pytest.param(
            {
                "messages": [
                    {**ASKED, "weight": 0, "content": [SEEN]},
                    {**SAID, "content": [{"type": "text", "text": "A"}]},
                ]
            },
            {"messages": [{**ASKED, "content": [SEEN]}, {**SAID, "content": "A"}]},
            id="words alone are text, and only the assistant has weights",
        ),
    ],
)
async def test_lines_are_sent_as_the_api_takes_them(
    provider: Provider, run: TrainingRun, line: dict[str, Any], sent: dict[str, Any]
) -> None:
    run.data_path.write_text(json.dumps(line) + "\n")
    await trainer_of(provider).start(run)
    _, content = provider.files["file-1"]
    assert json.loads(content) == sent


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "assistant", "content": [SEEN]},
        {"role": "user", "content": [SEEN] * 11},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "look"}]},
        "Hi",
    ],
    ids=["a sound", "a picture of the assistant's", "eleven pictures", "a call of another form", "no message"],
)
async def test_what_would_have_the_whole_file_refused_is_left_out(
    provider: Provider, run: TrainingRun, message: Any
) -> None:
    bad = json.dumps({"messages": [message, SAID]}) + "\n"
    (run.output_dir / "holdout.jsonl").write_text(bad)
    run.data_path.write_text(bad + CHAT)
    await trainer_of(provider).start(replace(run, holdout_path=run.output_dir / "holdout.jsonl"))
    assert provider.files["file-1"][1] == CHAT.encode()
    assert "validation_file" not in provider.jobs[0]
    run.data_path.write_text(bad)
    with pytest.raises(PermanentError, match=r"OpenAI takes no line of .*"):
        await trainer_of(provider).start(replace(run, run_id="run-2"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"prompt": "a", "completion": "b"}\n',
        '{"prompt": [{"role": "user", "content": "a"}], "completion": [], "label": true}\n',
        '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
    ],
)
async def test_a_format_that_the_api_does_not_take_is_refused(
    provider: Provider, run: TrainingRun, content: str
) -> None:
    run.data_path.write_text(content)
    with pytest.raises(PermanentError, match="format_type chatml, prompt_completion or dpo"):
        await trainer_of(provider).start(run)
    assert not provider.files


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"status": "failed", "error": {"message": "training file has 1 example"}}, "training file has 1 example"),
        ({"status": "failed", "error": None}, "ftjob-1"),
        ({"status": "cancelled"}, "cancelled"),
        ({"status": "succeeded", "fine_tuned_model": None}, "without a model"),
    ],
)
async def test_a_job_that_ends_badly_says_why(
    provider: Provider, run: TrainingRun, state: dict[str, Any], says: str
) -> None:
    trainer = trainer_of(provider)
    handle = await trainer.start(run)
    provider.jobs[0].update(state)
    status = await trainer.poll("run-1", handle)
    assert isinstance(status, Failed)
    assert says in status.reason


async def test_cancel_ends_the_job_once_and_for_all(provider: Provider, run: TrainingRun) -> None:
    trainer = trainer_of(provider)
    handle = await trainer.start(run)
    await trainer.cancel("run-1", handle)
    await trainer.cancel("run-1", handle)
    assert isinstance(await trainer.poll("run-1", handle), Failed)
    assert await trainer.start(run) == handle
    await trainer.cancel("run-0", {"kind": "openai", "job_id": "ftjob-0"})
    assert isinstance(await trainer.poll("run-0", {"kind": "openai", "job_id": "ftjob-0"}), Failed)


async def test_a_model_that_does_not_exist_is_given_up(provider: Provider, run: TrainingRun) -> None:
    with pytest.raises(PermanentError, match="The model `unknown` does not exist"):
        await trainer_of(provider, model="unknown").start(run)


async def test_the_key_comes_from_its_file(provider: Provider, run: TrainingRun, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-test\n")
    config = TrainerConfig(
        kind="openai", url=provider.url, token_file=str(tmp_path / "key"), options={"model": "gpt-4.1-mini"}
    )
    handle = await build_trainer(config).start(run)
    assert provider.tokens == {"Bearer sk-test"}
    assert "sk-test" not in json.dumps(handle)


def test_the_model_to_tune_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.options\.model"):
        build_trainer(TrainerConfig(kind="openai"))


WAITING, READY = {"status": "uploaded"}, {"status": "processed"}


async def test_no_job_is_made_before_its_files_are_processed(
    provider: Provider, run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "_ASK_S", 0.01)
    (tmp_path / "holdout.jsonl").write_text(CHAT)
    provider.states = [WAITING, {"status": "pending"}, WAITING, READY]
    await trainer_of(provider).start(replace(run, holdout_path=tmp_path / "holdout.jsonl"))
    assert provider.looks == 5, "four of the data, one of the holdout"
    assert len(provider.jobs) == 1


async def test_a_file_that_the_provider_refuses_says_why(provider: Provider, run: TrainingRun) -> None:
    provider.states = [{"status": "error", "status_details": "line 1 has no messages"}]
    with pytest.raises(PermanentError, match=r"refused file file-1 \(data.jsonl of run-1\): line 1 has no messages"):
        await trainer_of(provider).start(run)
    assert not provider.jobs


async def test_a_file_that_is_not_processed_for_long_is_asked_for_again_and_given_up_in_the_end(
    provider: Provider, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "_ASK_S", 0.01)
    monkeypatch.setattr(openai, "_PATIENCE_S", 0.05)
    provider.states = [WAITING]
    for _ in range(2):
        with pytest.raises(TemporaryError, match=r"file-1 .* is not processed yet: it is uploaded"):
            await trainer_of(provider).start(run)
    assert len(provider.files) == 1, "it is uploaded once"
    monkeypatch.setattr(openai, "_LONGEST_S", 0.1)
    with pytest.raises(PermanentError, match="has not processed file file-1"):
        await trainer_of(provider).start(run)
    provider.states = [READY]
    run.data_path.write_text(CHAT * 2)
    await trainer_of(provider).start(run)
    assert provider.jobs[0]["training_file"] == "file-2", "a file that has changed is another file"
