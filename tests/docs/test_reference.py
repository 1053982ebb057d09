"""The reference pages name everything that there is, and nothing that there is not."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import proxy
from policies.lifecycle import Phase
from policies.records import Outcome
from policies.selection import DropReason
from proxy.app.counters import COUNTER_TEXTS
from proxy.config import Config
from proxy.config.loop import DeployerConfig, LoopConfig, TrainerConfig
from proxy.loop.library.usage import UsageLogger
from proxy.loop.ports import Manifest
from proxy.store.tables.columns import RECORD_COLUMNS
from proxy.store.tables.values import RecordFlag
from proxy.web.documents import record_document, row_document
from proxy.wire.extract import KINDS
from tests.harness.install import Install
from tests.harness.pages import ROOT, Block, blocks

REFERENCE = ROOT / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------ metrics


def metric_names() -> set[str]:
    """Names in the sources, counters without `_total`, as string constants give them."""
    sources = [
        *(ROOT / "proxy/metrics").glob("*.py"),
        ROOT / "proxy/loop/look/metrics.py",
        ROOT / "proxy/ingest/metrics.py",
        ROOT / "proxy/judge/metrics.py",
        ROOT / "proxy/telemetry/metrics.py",
        *(ROOT / "proxy/app").glob("*.py"),
    ]
    found = {f"ratchet_gateway_{name.removesuffix('_total')}" for name in COUNTER_TEXTS}
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                found |= {name for name in names if re.fullmatch(r"(ratchet|gen_ai)_[a-z0-9_]+", name)}
    return found


def test_metrics_are_the_documented_ones() -> None:
    documented = re.findall(r"^\| `((?:ratchet|gen_ai)_\w+)` \| (\w+) \|", page("metrics"), re.MULTILINE)
    counters = {name for name, kind in documented if kind == "counter"}
    assert all(name.endswith("_total") for name in counters)
    assert {name.removesuffix("_total") if name in counters else name for name, _ in documented} == metric_names()


# ------------------------------------------------------------------------------------- settings and their kinds


def settings(cls: Any, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from settings(hints[field.name])
        else:
            yield field.name


def test_every_setting_is_documented() -> None:
    for name in settings(Config):
        assert f"| `{name}` |" in page("config"), name


@pytest.mark.parametrize(("config", "name"), [(TrainerConfig, "trainers"), (DeployerConfig, "deployers")])
def test_every_kind_is_documented(config: Any, name: str) -> None:
    for kind in get_args(get_type_hints(config)["kind"]):
        assert f"\n## `{kind}`\n" in page(name), kind


@pytest.mark.parametrize("room", ["trainers", "deployers"])
def test_every_option_is_documented(room: str) -> None:
    asked = set()
    for source in (ROOT / "proxy/loop/adapters" / room).glob("*.py"):
        text = source.read_text(encoding="utf-8")
        asked |= set(re.findall(r"options(?:\.get\(|\[)\"(\w+)\"", text))
        asked |= set(re.findall(r"\"(\w+)\" (?:not )?in (?:config\.|self\._)?options", text))
    assert asked
    for option in asked:
        assert f"`{option}`" in page(room), option


# ---------------------------------------------------------------------------------------------- Python, records


def test_every_exported_name_is_documented() -> None:
    for name in proxy.__all__:
        assert f"`{name}" in page("python"), name


@pytest.mark.parametrize("cls", [proxy.ContinuousLearningLoop, UsageLogger, proxy.TrainingDataGenerator])
def test_every_public_method_is_documented(cls: type) -> None:
    for name in vars(cls):
        if not name.startswith("_") and callable(getattr(cls, name)):
            assert f"`{name}(" in page("python"), name


def test_the_librarys_own_settings_are_documented() -> None:
    inherited = {field.name for field in dataclasses.fields(Config)}
    for field in dataclasses.fields(LoopConfig):
        if field.name not in inherited:
            assert f"| `{field.name}` | `{field.default}` |" in page("python"), field.name


async def test_every_field_of_a_record_is_documented(tmp_path: Path) -> None:
    install = Install(tmp_path)
    record = install.record()
    await install.fill([record], [install.vote(record, 1)])
    store = await install.open_store()
    try:
        view = await store.records.get(record.id)
    finally:
        await store.close()
    assert view is not None
    document = record_document(view, install.ids)
    names = [*row_document(view.row, install.ids), *document, *document["votes"][0], *document["exchange"]]
    for name in names:
        assert f"`{name}`" in page("records"), name


FLAG_NAMES = [flag.name.lower() for flag in RecordFlag if flag.name]
OUTCOMES = [outcome.label for outcome in Outcome]


@pytest.mark.parametrize(
    "name", [*KINDS, *DropReason, *(field.name for field in dataclasses.fields(Manifest)), *FLAG_NAMES, *OUTCOMES]
)
def test_words_in_records_and_manifests_are_documented(name: str) -> None:
    assert f"`{name}`" in page("records")


def test_every_fact_of_a_frame_is_documented() -> None:
    """As the reader of frames asks for them."""
    source = (ROOT / "proxy/ingest/interpret.py").read_text(encoding="utf-8")
    names = set(re.findall(r'"(\w+)" in meta|meta(?:\[|\.get\()"(\w+)"', source))
    names = {name for pair in names for name in pair if name}
    names |= {column.frame for column in RECORD_COLUMNS if column.frame is not None}
    assert {"id", "t", "out", "sh", "mk", "ssha"} <= names
    for name in names:
        assert f"`{name}`" in page("records"), name


def test_every_phase_is_in_the_glossary() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert all(phase.value in text for phase in Phase)


# ------------------------------------------------------------------------------------------------- code on pages


def python_blocks() -> Iterator[Any]:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for n, block in enumerate(blocks(path)):
            if block.language in ("python", "toml", "json"):
                yield pytest.param(block, id=f"{path.relative_to(ROOT)}:{n}")


@pytest.mark.parametrize("block", list(python_blocks()))
def test_code_on_pages_is_well_formed(block: Block) -> None:
    """Python compiles; settings are accepted as the server would, but for files that are not on this machine."""
    import json
    import tomllib

    from proxy.config import parse_config

    if block.language == "python":
        compile(block.text, "page", "exec")
    elif block.language == "toml":
        parse_config(tomllib.loads(_without_files(block.text)))
    else:
        json.loads(block.text)


def _without_files(text: str) -> str:
    """Settings without those that name a secret's file."""
    return re.sub(r"^\w*_file = .*$", "", text, flags=re.MULTILINE)


def test_the_librarys_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [example] = [block.text for block in blocks(REFERENCE / "python.md") if block.language == "python"]
    exec(compile(example, "python.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("False\n1 champion ")
