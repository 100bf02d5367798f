"""The servers that tests talk to: each starts, answers, and can be killed and started again."""

from __future__ import annotations

import pytest
import redis
import servers

from memory.testing import services


@pytest.mark.parametrize("name", ["redis", "redis_stack"])
def test_a_redis_answers(name: str) -> None:
    with redis.Redis.from_url(servers.server(name).url) as client:
        assert client.ping()


def test_a_redis_with_the_query_engine_has_it() -> None:
    with redis.Redis.from_url(servers.server("redis_stack").url) as client:
        assert isinstance(client.execute_command("FT._LIST"), list)


def test_a_cluster_answers_for_every_slot() -> None:
    started = servers.server("redis_cluster")
    with redis.RedisCluster.from_url(started.nodes[1].url) as client:
        for number in range(100):
            client.set(f"{{{number}}}", number)
        assert client.get("{42}") == b"42"
        for number in range(100):
            client.delete(f"{{{number}}}")


def test_a_redis_with_tls_knows_its_user() -> None:
    started = servers.server("redis_tls")
    with redis.Redis.from_url(started.url, ssl_ca_certs=str(started.certificate)) as client:
        assert client.acl_whoami() == "agent"


def test_a_firestore_answers() -> None:
    host, _, port = servers.server("firestore").url.partition(":")
    assert services.process.listening(int(port), host)


def test_what_is_killed_starts_again_and_has_its_data() -> None:
    with services.redis(durable=True) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("a", 1)
        server.kill()
        assert not services.process.listening(server.port)
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("a") == b"1"


def test_a_missing_service_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(services.ServiceMissing, match="apt install redis-server"), services.redis_tls():
        pass


def test_a_service_named_by_the_environment_is_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_TEST_REDIS_URL", f"redis://127.0.0.1:{services.free_port()}")
    with pytest.raises(RuntimeError, match="does not answer"), services.redis():
        pass
