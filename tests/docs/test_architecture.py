"""docs/explanation/architecture.md draws the rooms that import-linter holds, and says of each what it does."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
ROOMS = PAGE.partition("## The rooms")[2]


def test_the_map_of_the_rooms_is_the_linters() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["name"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}
    drawn = ROOMS.partition("```\n")[2].partition("```")[0].splitlines()
    assert drawn == contracts["rooms: import only downward"]["layers"]


def test_every_room_is_explained() -> None:
    rooms = {folder.name for folder in (ROOT / "proxy").iterdir() if (folder / "__init__.py").is_file()}
    assert rooms
    unexplained = {room for room in rooms | {"policies"} if f"| `{room}` |" not in ROOMS}
    assert unexplained == set()


def test_a_public_name_is_one_class() -> None:
    """Whoever reads `Event` need not ask which: a class, or a type that stands for several, has a name of its own."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in ("policies", "proxy"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in re.findall(
                r"(?m)^class ([A-Za-z]\w+)|^([A-Z]\w+): TypeAlias", path.read_text(encoding="utf-8")
            ):
                found["".join(name)].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
