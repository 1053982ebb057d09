"""Pages of the documentation as a reader uses them: their links, their files, their commands.

A page may hold files (a fenced block with `title="name"`) and commands (a ```console block, `$ ` before each command).
`Session` writes the one and runs the other, top to bottom, in one shell; what stands below a command is what it must
print, with … for any text. Ports are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness.programs import free_port

__all__ = ["ROOT", "Block", "Command", "Session", "anchors", "blocks", "commands", "links", "pages"]

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE: Final = re.compile(r'title="([^"]+)"')
_LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_PORTS: Final = ("8080", "8081", "8000", "8001")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    title: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and what the page says that it prints."""

    line: str
    shown: str


def pages() -> list[Path]:
    """Every page that a reader may come to."""
    own = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*own, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for language, rest, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        title = _TITLE.search(rest)
        found.append(Block(language, title[1] if title else None, text))
    return found


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield Command(line, shown)


def links(page: Path) -> list[str]:
    """The targets of a page's links and images, without those in code."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The fragments that a page offers, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in _HEADING.findall(text):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        slug = base = plain.replace(" ", "-")
        n = 0
        while slug in found:
            n += 1
            slug = f"{base}-{n}"
        found.add(slug)
    return found


class Session:
    """One reader with a shell in `directory`."""

    def __init__(self, directory: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.ports = {port: str(free_port()) for port in _PORTS}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environ = {
            **os.environ,
            "PATH": path,
            "COLUMNS": "160",
            "NO_COLOR": "1",
            "RATCHET_SERVER__PORT": self.ports["8080"],
            "RATCHET_ADMIN__PORT": self.ports["8081"],
            **(environ or {}),
        }

    def local(self, text: str) -> str:
        """`text` with this session's ports."""
        for port, free in self.ports.items():
            text = re.sub(rf"(?<=[: ]){port}\b", free, text)
        return text

    def run(self, found: list[Block], *, limit_s: float) -> None:
        """Write the files and run the commands of these blocks; each must succeed and print what is shown."""
        script = ["set -e"]
        expected: list[Command] = []
        for block in found:
            if block.title is not None:
                path = self.directory / block.title
                path.write_text(self.local(block.text), encoding="utf-8")
            elif block.language == "console":
                for command in commands(block):
                    script += [f"echo; echo '@@@ {len(expected)}'", self.local(command.line)]
                    expected.append(command)
        printed = self._shell("\n".join(script), limit_s)
        parts = re.split(r"^@@@ \d+\n", printed, flags=re.MULTILINE)[1:]
        assert len(parts) == len(expected), f"ended at `{expected[len(parts) - 1].line}`:\n{printed}"
        for command, part in zip(expected, parts, strict=True):
            assert _as_shown(command.shown, part), f"$ {command.line}\n--- shown\n{command.shown}\n--- printed\n{part}"

    def _shell(self, script: str, limit_s: float) -> str:
        file, output = self.directory / "page.sh", self.directory / "page.out"
        file.write_text(script + "\n")
        with output.open("w") as out:
            shell = subprocess.Popen(
                ["bash", str(file)],
                cwd=self.directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                status = shell.wait(limit_s)
            except subprocess.TimeoutExpired:
                shell.kill()
                shell.wait()
                raise AssertionError(f"not done after {limit_s} s:\n{output.read_text()}") from None
        assert status == 0, f"exit status {status}:\n{output.read_text()}"
        return output.read_text()


def _as_shown(shown: str, printed: str) -> bool:
    """Whether what was printed is what the page shows; a page that shows nothing promises nothing."""
    if not shown.strip():
        return True
    pattern = ".*?".join(re.escape(part.strip()) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, re.sub(r"[ \r]+$", "", printed, flags=re.MULTILINE).strip(), re.DOTALL) is not None
