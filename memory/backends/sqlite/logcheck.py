"""Damage in the write-ahead log that SQLite does not tell of: it silently forgets all that comes behind it.

SQLite reads the log up to the first frame whose checksum fails, because a crash leaves such an end. A crash leaves at
most one unfinished commit there; more commits of the same generation behind the end mean that the log was damaged.
"""

from __future__ import annotations

import os
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
    """The most commits behind the end that follow each other without a gap.

    Each frame's checksum goes on from that of the frame before. Writes that failed or were rolled back leave frames of
    this generation too, also with a commit; but the next writer starts again at the same place, so a commit is followed by
    a frame that goes on from it only if it had been acknowledged.
    """
    try:
        log = Path(f"{path}-wal").open("rb")  # noqa: SIM115 - closed below
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
        order = ">" if header[:4] == _MAGIC[1] else "<"
        most = run = 0
        before = b""
        log.seek(_HEADER + reached * (_FRAME + page_size))
        while len(frame := log.read(_FRAME)) == _FRAME:
            if frame[8:16] != salts:  # of an earlier generation: the usual case, not worth reading
                run, before = 0, b""
                log.seek(page_size, os.SEEK_CUR)
                continue
            page = log.read(page_size)
            if not run or len(page) < page_size or _checksum(order, before, frame[:8] + page) != frame[16:24]:
                run = 0
            run += any(frame[4:8])
            most, before = max(most, run), frame[16:24]
        return most


def _is_sound(header: bytes) -> bool:
    if header[:4] not in _MAGIC:
        return False
    return _checksum("<" if header[:4] == _MAGIC[0] else ">", bytes(8), header[:24]) == header[24:32]


def _checksum(order: str, before: bytes, data: bytes) -> bytes:
    """The log's own checksum (sqlite.org/fileformat2.html#checksum_algorithm), going on from the one before."""
    one, two = struct.unpack(">2I", before)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for a, b in zip(words[::2], words[1::2], strict=True):
        one = (one + a + two) & 0xFFFFFFFF
        two = (two + b + one) & 0xFFFFFFFF
    return struct.pack(">2I", one, two)
