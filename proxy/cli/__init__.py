"""The command line. Each group of verbs is one file; what a verb needs is imported when it runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the `ratchet` command."""
    from proxy.cli.app import app

    app()
