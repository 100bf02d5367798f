"""The proxy before a real server: each fault is seen by a plain socket and by a driver."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import servers
from redis.backoff import NoBackoff
from redis.retry import Retry

from memory.testing.proxy import Proxy
from memory.testing.services import free_port

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(servers.server("redis").port) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def driver(proxy: Proxy, timeout: float = 5) -> redis.Redis:
    return redis.Redis(port=proxy.port, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=timeout)


def ask(wire: socket.socket, message: bytes = PING) -> bytes:
    wire.sendall(message)
    return wire.recv(1_000)


def test_without_faults_nothing_is_changed(proxy: Proxy) -> None:
    with connected(proxy) as wire:
        for _ in range(3):
            assert ask(wire) == PONG
    with driver(proxy) as client:
        client.set("large", b"x" * 3_000_000)
        assert client.get("large") == b"x" * 3_000_000
        client.delete("large")
    assert proxy.counts == {"connections": 2}


def test_the_address_of_a_server_becomes_that_of_the_proxy(proxy: Proxy) -> None:
    assert proxy.url("redis://u:p%40x@localhost:1/2?prefix=a") == f"redis://u:p%40x@127.0.0.1:{proxy.port}/2?prefix=a"
    assert proxy.url("redis://localhost") == f"redis://127.0.0.1:{proxy.port}"


def test_a_delay_is_waited_for_in_either_direction_and_ends_by_healing(proxy: Proxy) -> None:
    with connected(proxy) as wire:
        for direction in ("requests", "replies"):
            proxy.inject("delay", direction, seconds=0.1)
            began = time.perf_counter()
            assert ask(wire) == PONG
            assert time.perf_counter() - began >= 0.1
            proxy.heal()
        began = time.perf_counter()
        assert ask(wire) == PONG
        assert time.perf_counter() - began < 0.1
    assert proxy.counts["delay"] == 2


def test_delays_add_up_and_keep_the_order(proxy: Proxy) -> None:
    proxy.inject("delay", seconds=0.05)
    proxy.inject("delay", seconds=0.05)
    with connected(proxy) as wire:
        began = time.perf_counter()
        assert ask(wire) == PONG
        assert time.perf_counter() - began >= 0.1


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_what_is_dropped_is_never_answered_and_the_connection_stays(proxy: Proxy, direction: str) -> None:
    proxy.inject("drop", direction, times=1)
    with connected(proxy) as wire:
        wire.settimeout(0.1)
        with pytest.raises(TimeoutError):
            ask(wire)
        wire.settimeout(5)
        assert ask(wire) == PONG
    with driver(proxy, timeout=0.1) as client:
        proxy.inject("drop", direction, times=1, holding=b"PING" if direction == "requests" else b"PONG")
        with pytest.raises(redis.TimeoutError):
            client.ping()
        assert client.ping()


def test_a_truncated_reply_ends_the_connection_in_an_orderly_way(proxy: Proxy) -> None:
    proxy.inject("truncate", "replies", keep=3, times=1)
    with connected(proxy) as wire:
        assert ask(wire) == PONG[:3]
        assert wire.recv(1_000) == b""
    with driver(proxy) as client:
        client.set("a", "1" * 100)
        proxy.inject("truncate", "replies", keep=20, times=1, holding=b"111")
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        assert client.get("a") == b"1" * 100, "a new connection"
        client.delete("a")


def test_a_truncated_request_is_not_carried_out(proxy: Proxy) -> None:
    with driver(proxy) as client:
        client.set("a", "old")
        proxy.inject("truncate", keep=20, times=1, holding=b"SET")
        with pytest.raises(redis.ConnectionError):
            client.set("a", "new")
        assert client.get("a") == b"old"
        client.delete("a")


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_a_reset_is_one(proxy: Proxy, direction: str) -> None:
    proxy.inject("reset", direction, times=1)
    with connected(proxy) as wire, pytest.raises(ConnectionResetError):
        ask(wire)
    proxy.inject("reset", direction, times=1, holding=b"PONG" if direction == "replies" else b"PING")
    with driver(proxy) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()
        assert client.ping()


def test_refused_are_new_connections_only_until_healed(proxy: Proxy) -> None:
    port = proxy.port
    with connected(proxy) as wire:
        assert ask(wire) == PONG
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        assert ask(wire) == PONG
        proxy.heal()
        assert proxy.port == port
        with connected(proxy) as other:
            assert ask(other) == PONG


def test_a_lost_reply_is_that_of_a_request_which_was_carried_out(proxy: Proxy) -> None:
    with driver(proxy) as client:
        client.set("count", 0)
        proxy.inject("lose_reply", times=1, holding=b"INCR")
        assert client.get("count") == b"0", "other requests are answered"
        with pytest.raises(redis.ConnectionError):
            client.incr("count")
        assert client.get("count") == b"1"
        proxy.inject("lose_reply", times=1, holding=b"large")
        with pytest.raises(redis.ConnectionError):
            client.set("large", b"x" * 1_000_000)
        assert client.strlen("large") == 1_000_000, "the whole request arrived"
        proxy.inject("lose_reply", times=1, holding=b"GET")
        with pytest.raises(redis.ConnectionError):
            client.get("large")
        client.delete("count", "large")
    assert proxy.counts["lose_reply"] == 3


def test_open_connections_are_cut_at_a_word(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy) as two:
        assert ask(one) == ask(two) == PONG
        assert proxy.cut() == 2
        for wire in (one, two):
            with pytest.raises(ConnectionResetError):
                wire.recv(1)
    assert proxy.cut() == 0


def test_a_fault_strikes_so_often_and_so_late_as_asked(proxy: Proxy) -> None:
    proxy.inject("reset", times=2, after=3)
    struck = []
    for _ in range(8):
        with connected(proxy) as wire:
            try:
                struck.append(ask(wire) != PONG)
            except ConnectionResetError:
                struck.append(True)
    assert struck == [False, False, False, True, True, False, False, False]


def test_the_same_seed_strikes_the_same_share() -> None:
    def struck(seed: int) -> list[bool]:
        found = []
        with Proxy(servers.server("redis").port, seed=seed) as proxy, connected(proxy) as wire:
            proxy.inject("delay", share=0.3)
            for _ in range(40):
                before = proxy.counts["delay"]
                assert ask(wire) == PONG
                found.append(proxy.counts["delay"] > before)
        return found

    one, again, other = struck(1), struck(1), struck(2)
    assert one == again != other
    assert 4 <= sum(one) <= 20


def test_faults_change_while_many_connections_are_in_use(proxy: Proxy) -> None:
    ending, right = threading.Event(), [0] * 8

    def caller(number: int) -> int:
        lost = 0
        with driver(proxy) as client:
            while not ending.is_set():
                try:
                    assert client.echo(f"{number}-{right[number]}") == f"{number}-{right[number]}".encode()
                    right[number] += 1
                except redis.ConnectionError:
                    lost += 1
        return lost

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(caller, number) for number in range(8)]
        for _ in range(5):
            proxy.inject("reset", share=0.2)
            proxy.inject("delay", "replies", seconds=0.001, share=0.5)
            time.sleep(0.05)
            proxy.heal()
            proxy.cut()
            time.sleep(0.02)
        deadline = time.monotonic() + 30
        while min(right) <= 10 and time.monotonic() < deadline:  # each is served again
            time.sleep(0.01)
        ending.set()
        assert sum(one.result(10) for one in callers) > 0
    assert min(right) > 10


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with Proxy(free_port()) as proxy, pytest.raises(ConnectionResetError), connected(proxy) as wire:
        wire.recv(1)


def test_the_end_of_the_proxy_ends_everything() -> None:
    threads = threading.active_count()
    proxy = Proxy(servers.server("redis").port).start()
    wire = connected(proxy)
    assert ask(wire) == PONG
    proxy.stop()
    with wire, pytest.raises(ConnectionResetError):
        wire.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    assert threading.active_count() == threads
