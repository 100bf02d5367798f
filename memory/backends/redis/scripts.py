"""The scripts, which the server keeps by the SHA-1 of their text."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """One script: its text and the digest by which it is called."""

    text: bytes
    digest: bytes


_HERE = files("memory.backends.redis").joinpath("lua")
_SHARED = _HERE.joinpath("shared.lua").read_text(encoding="utf-8")


def _load(name: str, flags: str) -> Script:
    own = _HERE.joinpath(f"{name}.lua").read_text(encoding="utf-8").replace("--@shared\n", _SHARED)
    text = f"#!lua{flags}\n{own}".encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


READ_ONLY, ALLOW_OOM = " flags=no-writes", " flags=allow-oom"
# A script that adds refuses to begin when the server's memory is full, so nothing is done by halves; one that only
# removes may still run.
WRITE = _load("write", "")
REMOVE = _load("write", ALLOW_OOM)
FETCH = _load("fetch", READ_ONLY)
ENTER = _load("enter", "")
CLAIM = _load("claim", "")
ATTACH = _load("attach", "")
NEXT = _load("next", "")
BEGIN = _load("begin", "")
FREEZE = _load("freeze", "")
FINISH = _load("finish", ALLOW_OOM)
THAW = _load("thaw", ALLOW_OOM)
DROP = _load("drop", ALLOW_OOM)
BURY = _load("bury", ALLOW_OOM)
FEED = _load("feed", READ_ONLY)
COLLECT = _load("collect", "")
PREPARE = _load("prepare", "")
DECLARE = _load("declare", "")
CHECK = _load("check", READ_ONLY)
MEND = _load("mend", "")
WALK = _load("walk", READ_ONLY)
WALKS = _load("walks", READ_ONLY)
POSTINGS = _load("postings", READ_ONLY)
