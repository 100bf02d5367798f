"""Where a server's store is, said so that it can be opened again, without passwords."""

from __future__ import annotations

import pytest

from memory.registry import create_store


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("redis://localhost:7000/2", {"prefix": "mine"}, "redis://localhost:7000/2?prefix=mine"),
        ("rediss://me:sec%2Fret@host", {}, "rediss://me:***@host:6379?prefix=memory"),
        ("redis://:secret@host", {}, "redis://:***@host:6379?prefix=memory"),
        (
            "rediss+cluster://host:7001?ssl_ca_certs=/a/b.pem",
            {},
            "rediss+cluster://host:7001?ssl_ca_certs=%2Fa%2Fb.pem&prefix=memory",
        ),
        ("postgresql://me:secret@host:5433/db", {}, "postgresql://me:***@host:5433/db?schema=memory"),
        ("postgres://host/db", {"schema": "a", "prefix": "b_"}, "postgresql://host/db?prefix=b_&schema=a"),
        ("firestore://project", {"emulator": "host:1"}, "firestore://project?emulator=host%3A1"),
        ("firestore+v1://project/my-db", {"emulator": "host:1"}, "firestore+v1://project/my-db?emulator=host%3A1"),
        (
            "firestore://project/my-db?environment=prod&namespace=n",
            {"emulator": "host:1"},
            "firestore://project/my-db?environment=prod&namespace=n&emulator=host%3A1",
        ),
    ],
)
def test_a_location_opens_the_same_data_and_hides_the_password(url: str, options: dict[str, str], said: str) -> None:
    store = create_store(url, **options)
    assert store.location is not None
    parts, wanted = store.location.partition("?"), said.partition("?")
    assert parts[0] == wanted[0]
    assert sorted(parts[2].split("&")) == sorted(wanted[2].split("&"))
    assert create_store(store.location).location == store.location
