"""``python -m memory``: the command."""

from __future__ import annotations

from memory.cli import main

if __name__ == "__main__":
    main()
