"""Each format of the index, kept for ever: whatever changes, these bytes mean the same, or are not taken for ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from memory.backends.faiss.codes import TWO_BITS, Query
from memory.backends.faiss.generation import DoubtfulError, read_generation, read_manifest
from memory.backends.sqlite.rotation import rotated_vector

FIXTURES = Path(__file__).parent / "fixtures"
FIRST, SECOND, THIRD = (json.loads((FIXTURES / f"faiss-v{number}.json").read_text()) for number in (1, 2, 3))
ROWS = np.array(
    [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0.5, 0], [-1, 0, 0, 0, 2], [0.1, 0.2, 0.3, 0.4, 0.5]], dtype=np.float32
)


def test_the_third_format_says_what_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "m.db")
    (tmp_path / "m.db-faiss").write_bytes(msgspec.json.encode(THIRD["manifest"]))
    (tmp_path / "m.db-faiss-1").write_bytes(bytes.fromhex(THIRD["codes"]))
    manifest = read_manifest(path)
    assert (manifest.format, manifest.dimension, manifest.count) == (3, 5, 5)
    assert (manifest.era, manifest.seq, manifest.digest, manifest.schema) == (2, 7, 123_456_789, 43)
    found = read_generation(path, manifest)
    assert found.ords.tolist() == [11, 12, 2**40, -3, 15]
    assert found.rows.tolist() == [1, 2, 3, 4, 9]
    units = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    np.testing.assert_allclose(found.centre, rotated_vector(units.mean(axis=0)), rtol=1e-5, atol=1e-6)
    for unit in units:
        query = Query(rotated_vector(unit), found.centre)
        sizes = query.sizes(found.scale)
        about = query.by_both(query.sums(found.high), query.sums(found.low), sizes)
        assert (np.abs(about - units @ unit) <= 4 * TWO_BITS * sizes + 0.01).all()


@pytest.mark.parametrize("manifest", [FIRST["manifest"], SECOND["manifest"], {**THIRD["manifest"], "format": 4}])
def test_another_format_is_not_taken_for_ours(tmp_path: Path, manifest: dict[str, Any]) -> None:
    """Nor are the first two: their codes are of vectors that were not turned."""
    (tmp_path / "m.db-faiss").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(DoubtfulError, match=f"format {manifest['format']}"):
        read_manifest(str(tmp_path / "m.db"))
