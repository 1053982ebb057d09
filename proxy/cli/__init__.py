"""The command line. Each group of verbs is one file; what a verb needs is imported when it runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the `ratchet` command."""
    import logging
    import os
    import sys
    import traceback

    from proxy.cli.app import app
    from proxy.cli.printable import say
    from proxy.printable import PrintableFormatter
    from proxy.private import UMASK

    os.umask(UMASK)

    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        app()
    except Exception:  # noqa: BLE001 - a bug of ours: its traceback quotes whatever was being worked on
        say(traceback.format_exc().rstrip(), err=True)
        sys.exit(1)
