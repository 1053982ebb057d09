"""The example and the reference are what the settings say, all of it, and the example means the defaults."""

import re
import tomllib
from pathlib import Path

import pytest

from proxy.config import Config, load_config, parse_config
from proxy.config.document import EXAMPLE_FILE, REFERENCE_FILE, describe, example_toml, reference_markdown, tables
from proxy.config.parse import Key, keys

ROOT = Path(__file__).parents[2]
CODE = "".join(path.read_text("utf-8") for room in ("proxy", "policies") for path in (ROOT / room).rglob("*.py"))


def test_the_example_in_the_repository_parses_to_the_defaults() -> None:
    assert load_config(ROOT / EXAMPLE_FILE) == Config()


def test_the_files_in_the_repository_are_the_generated_ones() -> None:
    hint = "run `python -m proxy.config.document`"
    assert (ROOT / EXAMPLE_FILE).read_text(encoding="utf-8") == example_toml(), hint
    assert (ROOT / REFERENCE_FILE).read_text(encoding="utf-8") == reference_markdown(), hint


def test_every_setting_has_its_place_in_the_documents() -> None:
    documented = [key.path for table in tables() for key in table.keys]
    assert sorted(documented) == sorted(key.path for key in keys(Config))


@pytest.mark.parametrize("key", list(keys(Config)), ids=lambda key: key.path)
def test_every_setting_is_described_in_a_sentence(key: Key) -> None:
    line = describe(key.owner)[key.name]
    assert len(line) > 10
    assert line.endswith((".", ")")), line


def test_every_setting_is_read() -> None:
    """A setting that nothing reads would be accepted, documented, and without effect. Of a secret that may come from a
    file, the secret is read."""
    names = {key.path: key.name.removesuffix("_file") for key in keys(Config)}
    assert [path for path, name in names.items() if not re.search(rf"\.{name}(_file)?\b", CODE)] == []


def test_the_example_names_every_key_under_its_own_table() -> None:
    uncommented = example_toml().replace('= "…"', '= "1"').replace("\n# ", "\n#")
    lines = [line.removeprefix("#") if line.endswith('= "1"') else line for line in uncommented.split("\n")]
    data = tomllib.loads("\n".join(lines))
    for key in keys(Config):
        table = data
        for part in key.path.split(".")[:-1]:
            table = table[part]
        assert key.name in table, key.path


def test_what_the_example_shows_as_off_is_off() -> None:
    assert parse_config({"generator_config": {"max_samples": "none"}}).generator_config.max_samples is None
