"""Each format of the index, kept for ever: whatever changes, these bytes mean the same, or are not taken for ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from memory.backends.faiss.codes import ONE_BIT, Query
from memory.backends.faiss.generation import DoubtfulError, read_generation, read_manifest
from memory.backends.sqlite.rotation import rotated_vector
from memory.search.vectors import products

FIXTURES = Path(__file__).parent / "fixtures"
OLD = [json.loads((FIXTURES / f"faiss-v{number}.json").read_text())["manifest"] for number in (1, 2, 3, 4)]
FIFTH = json.loads((FIXTURES / "faiss-v5.json").read_text())


@pytest.mark.parametrize("kind", ["plain", "listed"])
def test_the_fifth_format_says_what_was_written(tmp_path: Path, kind: str) -> None:
    written = FIFTH[kind]
    path = str(tmp_path / "m.db")
    (tmp_path / "m.db-faiss").write_bytes(msgspec.json.encode(written["manifest"]))
    (tmp_path / "m.db-faiss-1").write_bytes(bytes.fromhex(written["codes"]))
    manifest = read_manifest(path)
    assert (manifest.format, manifest.dimension, manifest.count) == (5, 5, 5)
    assert (manifest.era, manifest.seq, manifest.digest, manifest.schema) == (2, 7, 123_456_789, 43)
    found = read_generation(path, manifest)
    if kind == "plain":
        assert found.ords.tolist() == [11, 12, 2**40, -3, 15]
        assert found.rows.tolist() == [1, 2, 3, 4, 9]
    else:
        assert (manifest.lists, manifest.probes) == (2, (1, 2))
        assert found.ords.tolist() == [11, 15, 12, 2**40, -3]
        assert found.rows.tolist() == [1, 9, 2, 3, 4]
        assert found.starts.tolist() == [0, 2]
    rows = np.array(written["rows"], dtype=np.float32)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.centre, rotated_vector(units.mean(axis=0)), rtol=1e-5, atol=1e-6)
    for unit in units:
        query = Query(rotated_vector(unit), found.centre)
        places, sums = found.scan.nearest(query, 5)
        assert sorted(places.tolist()) == [0, 1, 2, 3, 4]
        sizes = query.sizes(found.scale[places])
        assert (np.abs(query.by_bits(sums, sizes) - units[places] @ unit) <= 4 * ONE_BIT * sizes + 0.01).all()
        about, off = query.by_fine(found.fine_at(np.arange(5)))
        assert (np.abs(about - units @ unit) <= 4 * off + 0.01).all()
        if kind == "listed":
            assert products(found.heads, rotated_vector(unit)).argmax() in (0, 1)


@pytest.mark.parametrize("manifest", [*OLD, {**FIFTH["plain"]["manifest"], "format": 6}])
def test_another_format_is_not_taken_for_ours(tmp_path: Path, manifest: dict[str, Any]) -> None:
    """Codes of the first two are of vectors that were not turned, those of the next two have two bits a number."""
    (tmp_path / "m.db-faiss").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(DoubtfulError, match=f"format {manifest['format']}"):
        read_manifest(str(tmp_path / "m.db"))
