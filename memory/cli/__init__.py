"""The ``memory`` command. Everything is imported when a command runs, so that ``memory --help`` starts at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code (see memory.cli.failures for what the codes mean)."""
    try:
        from memory.cli.app import run
    except KeyboardInterrupt:
        print("memory: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
