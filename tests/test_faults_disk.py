"""The recorder and the model of a disk: what a power loss may leave."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from memory.testing.faults.disk import Cut, Disk, Dropped, Named, NamesSynced, Recorder, RecordingVFS, Synced, Written

FILE = [Named("a", 1), NamesSynced()]


def disk(*events: object) -> Disk:
    made = Disk()
    for event in events:
        made.feed(event)
    return made


def test_what_was_synced_is_there_and_what_was_not_is_not():
    lost = disk(*FILE, Written(1, 0, b"one"), Synced(1), Written(1, 3, b"two"))
    assert lost.synced_only() == {"a": b"one"}
    assert lost.all_written() == {"a": b"onetwo"}


def test_a_write_beyond_the_end_leaves_zeros_before_it():
    assert disk(*FILE, Written(1, 2, b"x"), Synced(1)).synced_only() == {"a": b"\0\0x"}


def test_a_file_cut_without_a_sync_may_be_long_again():
    cut = disk(*FILE, Written(1, 0, b"long"), Synced(1), Cut(1, 1))
    assert cut.synced_only() == {"a": b"long"}
    assert cut.all_written() == {"a": b"l"}
    assert disk(*FILE, Cut(1, 3), Synced(1)).synced_only() == {"a": b"\0\0\0"}


def test_a_name_is_there_only_after_its_directory_was_synced():
    new = disk(Named("a", 1), Written(1, 0, b"x"), Synced(1))
    assert new.synced_only() == {}
    assert new.all_written() == {"a": b"x"}
    new.feed(NamesSynced())
    assert new.synced_only() == {"a": b"x"}


def test_a_deleted_name_may_come_back_with_its_old_content():
    gone = disk(*FILE, Written(1, 0, b"old"), Synced(1), Named("a", 0), Named("a", 2), Written(2, 0, b"new"), Synced(2))
    assert gone.synced_only() == {"a": b"old"}
    assert gone.all_written() == {"a": b"new"}


def test_random_images_lie_between_the_strict_and_the_full_one():
    written = disk(*FILE, *[Written(1, 512 * i, bytes([i + 1]) * 512) for i in range(8)])
    seen = {written.some_writes(random.Random(seed))["a"] for seed in range(40)}
    assert len(seen) > 10
    assert all(part in (bytes([i + 1]) * 512, bytes(512), b"") for a in seen for i, part in enumerate(_parts(a)))


def test_sectors_of_one_write_are_lost_each_on_its_own_but_never_in_part():
    torn = disk(*FILE, Written(1, 100, b"x" * 2_000))
    images = {torn.some_sectors(random.Random(seed))["a"] for seed in range(60)}
    assert len(images) > 5
    for image in images:
        for start, end in ((100, 512), (512, 1_024), (1_024, 1_536), (1_536, 2_048), (2_048, 2_100)):
            assert set(image[start:end]) in ({ord("x")}, {0}, set())


def test_a_torn_write_keeps_all_earlier_ones():
    torn = disk(*FILE, Written(1, 0, b"a" * 512), Written(1, 512, b"b" * 1_024))
    images = {torn.torn(random.Random(seed))["a"] for seed in range(20)}
    assert images == {b"a" * 512, b"a" * 512 + b"b" * 512}
    assert disk(*FILE).torn(random.Random(1)) == {"a": b""}


def test_the_recorder_sees_every_sync_of_a_database_and_its_directory(tmp_path: Path):
    recorder = Recorder(tmp_path)
    vfs = RecordingVFS("test-recording", recorder)
    try:
        db = apsw.Connection(str(tmp_path / "a.db"), vfs="test-recording")
        db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(x)").fetchall()
        before = recorder.position()
        db.execute("INSERT INTO t VALUES (1)")
        commit = recorder.log[before:]
        assert isinstance(commit[-1], Synced)
        assert all(isinstance(event, Written) for event in commit[:-1])
        assert any(isinstance(event, NamesSynced) for event in recorder.log)
        apsw.Connection("", vfs="test-recording").execute("CREATE TABLE elsewhere(x)")
        model = disk(*recorder.log)
        db.close()
        whole = disk(*recorder.log)
    finally:
        vfs.unregister()
    assert reread(tmp_path / "strict", model.synced_only()) == [(1,)]
    assert whole.all_written() == {"a.db": (tmp_path / "a.db").read_bytes()}


def test_without_syncs_the_strict_disk_has_nothing(tmp_path: Path):
    recorder = Recorder(tmp_path)
    vfs = RecordingVFS("test-recording", recorder)
    try:
        db = apsw.Connection(str(tmp_path / "a.db"), vfs="test-recording")
        db.execute("PRAGMA synchronous=OFF; CREATE TABLE t(x)").fetchall()
        db.close()
    finally:
        vfs.unregister()
    model = disk(*recorder.log)
    assert model.synced_only() == {}
    assert model.all_written() == {"a.db": (tmp_path / "a.db").read_bytes()}


def test_after_a_failed_sync_the_bytes_are_read_until_the_power_goes_and_no_later_sync_saves_them():
    failed = disk(*FILE, Written(1, 0, b"one"), Dropped(1), Written(1, 3, b"two"), Synced(1))
    assert failed.all_written() == {"a": b"onetwo"}
    assert failed.synced_only() == {"a": b"\0\0\0two"}


def test_a_failing_sync_reaches_the_caller_and_the_log(tmp_path: Path):
    failing: list[bool] = []
    recorder = Recorder(tmp_path, lambda: bool(failing))
    vfs = RecordingVFS("test-recording", recorder)
    try:
        db = apsw.Connection(str(tmp_path / "a.db"), vfs="test-recording")
        db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(x)").fetchall()
        failing.append(True)
        with pytest.raises(apsw.IOError) as caught:
            db.execute("INSERT INTO t VALUES (1)")
        assert caught.value.extendedresult == apsw.SQLITE_IOERR_FSYNC
        assert isinstance(recorder.log[-1], Dropped)
        failing.clear()
        db.close()
    finally:
        vfs.unregister()


def _parts(content: bytes) -> list[bytes]:
    return [content[start : start + 512] for start in range(0, len(content), 512)]


@pytest.mark.parametrize("offset", [0, 511, 512, 4_096])
def test_a_write_that_was_synced_is_whole_wherever_it_starts(offset: int):
    assert disk(*FILE, Written(1, offset, b"x" * 700), Synced(1)).synced_only()["a"] == bytes(offset) + b"x" * 700


def reread(folder: Path, files: dict[str, bytes]) -> list[tuple[object, ...]]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    db = apsw.Connection(str(folder / "a.db"))
    rows = db.execute("SELECT x FROM t").fetchall()
    db.close()
    return rows
