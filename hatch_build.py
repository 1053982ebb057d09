"""The description of the package: README.md, whose links lead to the repository wherever it is shown.

In the repository they are relative, so that they work in a checkout. A package index shows the text alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class AbsoluteLinks(MetadataHookInterface):
    """Called by hatchling, see `[tool.hatch.metadata.hooks.custom]`."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, metadata["urls"]["Source"])}


def absolute(text: str, source: str) -> str:
    """`text` with each relative link as one to the main branch of `source`; of a picture, to the picture alone."""

    def target(match: re.Match[str]) -> str:
        shows = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({source}/{shows}/main/{match[3]})"

    return re.sub(r"(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)\s]+)\)", target, text)
