"""``python -m memory.compat rewrite PATH...``: old imports in source code turned into new ones."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

LEFT, USAGE, MISSING = 1, 2, 3
_PIP = "pip install 'agent-memory-backends[compat]'"
_SKIPPED = frozenset({"__pycache__", "node_modules", "build", "dist", "site-packages"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 something is left for a person, 2 bad usage, 3 libcst is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m memory.compat", description="Old code that used capabilities.memory"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    rewriting = commands.add_parser(
        "rewrite",
        help="turn old imports into new ones",
        description="Turn imports of capabilities.memory into imports of memory.compat. Shows what would change; --write "
        "changes the files. What a person must decide is listed on stderr, and the exit code is then 1.",
    )
    rewriting.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with all below it")
    rewriting.add_argument("--write", action="store_true", help="change the files")
    given = parser.parse_args(arguments)
    try:
        from memory.compat.rewriting import rewrite
    except ModuleNotFoundError as error:
        if error.name != "libcst":
            raise
        return _fail(f"rewriting needs 'libcst', which is not installed: {_PIP}", MISSING)
    try:
        missing = [path for path in given.paths if not path.exists()]
    except OSError as error:
        return _fail(f"{error.filename} cannot be read: {error.strerror}", USAGE)
    if missing:
        return _fail(f"there is no {missing[0]}", USAGE)
    changed = left = 0
    later: dict[str, None] = {}
    unread: list[OSError] = []
    for path in _files(given.paths, unread):
        try:
            before = path.read_bytes()
            done = rewrite(before)
        except (SyntaxError, OSError, ValueError) as error:
            left += 1
            print(f"{path}: not rewritten: {error}", file=sys.stderr)
            continue
        if done.source != before:
            changed += 1
            if given.write:
                _replace(path, done.source)
            else:
                sys.stdout.write(_diff(path, before, done.source))
        for note in done.open:
            left += 1
            print(f"{path}:{note.line}: {note.text}", file=sys.stderr)
        later |= dict.fromkeys(note.text for note in done.later)
    what = "rewritten" if given.write else "to rewrite (--write does it)"
    print(f"{changed} file{'' if changed == 1 else 's'} {what}; {left or 'nothing'} left to decide", file=sys.stderr)
    if later:
        print("these keep their old form, and work:", file=sys.stderr)
    for text in sorted(later):
        print(f"  {text}", file=sys.stderr)
    for failure in unread:
        print(f"{failure.filename} cannot be read: {failure.strerror}", file=sys.stderr)
    return USAGE if unread else LEFT if left else 0


def _files(paths: Sequence[Path], unread: list[OSError]) -> Iterator[Path]:
    """The Python files that are named, and those below named folders, each once; hidden folders and environments are left out.

    Folders that cannot be read are added to ``unread``.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.is_file():
            found = [path]
        else:
            found = []
            for folder, below, names in os.walk(path, onerror=unread.append):
                below[:] = sorted(
                    name
                    for name in below
                    if not name.startswith(".")
                    and name not in _SKIPPED
                    and not Path(folder, name, "pyvenv.cfg").exists()
                )
                found += [Path(folder, name) for name in sorted(names) if name.endswith((".py", ".pyi"))]
        for file in found:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _diff(path: Path, before: bytes, after: bytes) -> str:
    old, new = (text.decode(errors="replace").splitlines(keepends=True) for text in (before, after))
    made = "".join(difflib.unified_diff(old, new, fromfile=str(path), tofile=str(path)))
    return made if made.endswith("\n") else f"{made}\n"


def _replace(path: Path, source: bytes) -> None:
    """Put new source in place of old in one step; what a link names is replaced, not the link."""
    place = path.resolve()
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(source)
        Path(name).chmod(place.stat().st_mode & 0o7777)
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
