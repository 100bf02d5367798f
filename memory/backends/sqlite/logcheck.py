"""Damage in the write-ahead log that SQLite does not tell of: it silently forgets all that comes behind it.

SQLite reads the log up to the first frame whose checksum fails, because a crash leaves such an end. A crash leaves at
most one unfinished commit there; more commits of the same generation behind the end mean that the log was damaged.
"""

from __future__ import annotations

import struct
from pathlib import Path

import apsw

_HEADER, _FRAME = 32, 24
_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


def unreachable_commits(db: apsw.Connection, path: str) -> int:
    """Commits in the log that SQLite cannot reach any more: 0 or 1 in a sound one. Blocking.

    Takes the write lock for about a tenth of a millisecond, so that the log stands still. Raises apsw.BusyError.
    """
    other = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=db.open_vfs)
    try:
        # Else closing the last connection would empty the log, and with it the evidence.
        other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.execute("BEGIN IMMEDIATE")
        try:
            other.pragma("schema_version")  # so that it has opened the log
            reached = other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
            return 0 if reached < 0 else _commits_behind(path, reached, db.pragma("page_size"))
        finally:
            db.execute("ROLLBACK")
    finally:
        other.close(True)


def _commits_behind(path: str, reached: int, page_size: int) -> int:
    try:
        log = Path(f"{path}-wal").open("rb")
    except FileNotFoundError:
        return 0
    with log:
        header = log.read(_HEADER)
        if len(header) < _HEADER or not any(header):
            return 0
        salts = header[16:24]
        if not _is_sound(header):
            # 32 bytes are one sector, so this is no torn write. The first frame knows the generation.
            salts = log.read(16)[8:]
        found, number = 0, reached
        while True:
            log.seek(_HEADER + number * (_FRAME + page_size))
            frame = log.read(_FRAME)
            if len(frame) < _FRAME:
                return found
            found += frame[8:16] == salts and any(frame[4:8])
            number += 1


def _is_sound(header: bytes) -> bool:
    if header[:4] not in _MAGIC:
        return False
    order = "<" if header[:4] == _MAGIC[0] else ">"
    one = two = 0
    words = struct.unpack(order + "6I", header[:24])
    for a, b in zip(words[::2], words[1::2], strict=True):
        one = (one + a + two) & 0xFFFFFFFF
        two = (two + b + one) & 0xFFFFFFFF
    return struct.pack(">2I", one, two) == header[24:32]
