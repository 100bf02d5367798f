"""Names, URLs and classes become stores; mistakes become advice."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import typing
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import memory.backends
from memory import BackendUnavailable, InvalidSetting, MemoryStore, registry
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.cli import command
from memory.registry import create_store
from memory.settings import Settings


class ServerStore(InMemoryStore):
    """A backend as one for a server would be: it takes its address."""

    def __init__(
        self, url: str, *, pool: int = 4, ratio: float = 0.5, hosts: tuple[str, ...] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        self.url, self.pool, self.ratio, self.hosts = url, pool, ratio, hosts


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.BACKENDS, "server", registry.Backend(f"{__name__}:ServerStore", "redis", ("srv", "srvs"))
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules[ServerStore.__module__])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("spec", ["in_memory", "In-Memory", " in_memory ", "memory://", "in_memory://", "memory:///"])
def test_a_name_or_an_address_without_place_makes_a_store_in_memory(spec: str) -> None:
    assert type(create_store(spec)) is InMemoryStore


def test_a_class_or_its_name_makes_a_store() -> None:
    assert type(create_store(InMemoryStore, feed=True)) is InMemoryStore
    assert create_store("memory.backends.in_memory:InMemoryStore", feed=True).feed


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///below/relative.db", "below/relative.db"),
        ("sqlite:////data/absolute.db", "/data/absolute.db"),
        ("sqlite:///a%20b%23%3F%C3%A9.db", "a b#?é.db"),
        ("SQLITE:///relative.db", "relative.db"),
        ("sqlite:///~/home.db", str(Path("~/home.db").expanduser())),
    ],
)
def test_an_sqlite_address_names_a_file(url: str, path: str) -> None:
    store = create_store(url)
    assert isinstance(store, SqliteStore)
    assert Path(store.path) == Path(path)


def test_without_a_path_sqlite_lives_in_memory_db() -> None:
    store = create_store("sqlite")
    assert isinstance(store, SqliteStore)
    assert Path(store.path) == Path("memory.db")


def test_the_query_of_an_address_gives_options_of_the_right_types() -> None:
    store = create_store(
        "memory://?feed=yes&dimension=12&sweep_interval=2.5&language=german&index=metadata.a,metadata.b"
    )
    assert (store.feed, store.dimension, store.sweep_interval, store.language) == (True, 12, 2.5, "german")
    assert store.index == (("metadata", "a"), ("metadata", "b"))


def test_a_keyword_wins_over_the_query_of_an_address() -> None:
    assert create_store("memory://?dimension=3", dimension=4).dimension == 4


@pytest.mark.usefixtures("server")
def test_a_server_keeps_what_is_its_drivers_in_its_address() -> None:
    store = create_store("srvs://me:pw@host:1/db?sslmode=require&pool=9&ratio=0.25&hosts=a,b&x=1")
    assert isinstance(store, ServerStore)
    assert store.url == "srvs://me:pw@host:1/db?sslmode=require&x=1"
    assert (store.pool, store.ratio, store.hosts) == (9, 0.25, ("a", "b"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sqlit", "did you mean 'sqlite'?"),
        ("inmemory", "did you mean 'in_memory'?"),
        ("oracle", "known: sqlite, in_memory, faiss, redis, postgres"),
        ("", "must be a name, a URL or module:Class"),
        ("./agent.db", "MEMORY_PATH"),
        ("sqlite:agent.db", "sqlite:///file.db"),
        ("firestore+v1://", "name the Google Cloud project"),
        ("firestore://", "name the Google Cloud project"),
        ("redis://me:hunter2@host/0?db=1", "no option 'db'"),
        ("redis://me:hunter2@host?prefx=a", "did you mean 'prefix'?; it has: client, clock, "),
        ("redis://host?tiemout=1", "timeout, track_access, url, vector_cache, waiting, weights"),
        ("rediss://host?ssl_ca=1", "ssl_ca_certs, ssl_cert_reqs"),
        ("redis://host?ssl_ca_certs=x", "rediss:// has ssl_ca_certs"),
        ("postgresql://host/db?shema=a", "did you mean 'schema'?; it has: "),
        ("postgresql://host/db?sslmod=a", "sslmode"),
        ("firestore://project?max_read=1", "did you mean 'max_reads'?; it has: "),
        ("postgresq://host/db", "did you mean 'postgresql'?"),
        ("sqlit:///agent.db", "did you mean 'sqlite'?"),
        ("sqlite://agent.db", "sqlite:///agent.db"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///:memory:", "choose the backend in_memory"),
        ("sqlite://:memory:", "choose the backend in_memory"),
        ("sqlite:///a.db#fragment", "%23"),
        ("sqlite:///%ff.db", "UTF-8"),
        ("sqlite:///a%00.db", "must name a file"),
        ("memory://host", "has no address"),
        ("memory://?feed", "name=value"),
        ("memory://?feed=true&feed=false", "given twice"),
        ("memory://?fed=true", "did you mean 'feed'?"),
        ("memory://?feed=maybe", "must be true or false"),
        ("memory://?dimension=many", "must be a whole number"),
        ("memory://?sweep_interval=x", "must be a number"),
        ("memory://?clock=now", "cannot be said in a URL"),
        ("no.such.module:Store", "is it installed?"),
        ("memory.backends.in_memory:Nothing", "has no 'Nothing'"),
        ("os:path", "is not a subclass of memory.MemoryStore"),
        ("memory.store:MemoryStore", "name one of its subclasses"),
    ],
)
def test_a_backend_that_cannot_be_understood_is_refused_with_advice(spec: str, words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        create_store(spec)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fed": True}, "did you mean 'feed'?"),
        ({"feed": "yes"}, "must be true or false"),
        ({"dimension": 1.5}, "must be a whole number"),
        ({"dimension": True}, "must be a whole number"),
        ({"language": 3}, "must be a text"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        create_store("in_memory", **options)
    assert words in str(caught.value)
    assert caught.value.setting == next(iter(options))


@pytest.mark.parametrize("path", ["", "  ", ":memory:", "a\0b", 3, "~nobody-of-this-name/x.db"])
def test_a_path_that_names_no_file_is_refused(path: Any) -> None:
    with pytest.raises(InvalidSetting):
        create_store("sqlite", path=path)


def test_a_file_named_twice_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="named twice"):
        create_store("sqlite:///a.db", path="b.db")


def test_no_password_is_shown_when_an_address_is_refused() -> None:
    with pytest.raises(InvalidSetting) as caught:
        create_store("sqlite://me:hunter2@host?x")
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "absent.py").write_text("import driver_that_is_nowhere.asyncio")
    monkeypatch.setattr(memory.backends, "__path__", [*memory.backends.__path__, str(here)])
    monkeypatch.setitem(
        registry.BACKENDS, "absent", registry.Backend("memory.backends.absent:Store", "redis", ("absent",))
    )
    for spec in ("absent", "absent://host"):
        with pytest.raises(BackendUnavailable, match="needs 'driver_that_is_nowhere'") as caught:
            create_store(spec)
        assert str(caught.value).endswith(": pip install 'agent-memory-backends[redis]'")
        assert caught.value.command == "pip install 'agent-memory-backends[redis]'"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "statement", "blocked", "missing", "extra"),
    [
        ("faiss", "from memory.backends.faiss import FaissStore", "faiss", "faiss-cpu", "faiss"),
        ("redis", "from memory.backends.redis import RedisStore", "redis", "redis", "redis"),
        ("postgres", "from memory.backends.postgres import PostgresStore", "asyncpg", "asyncpg", "postgres"),
        ("firestore_v1", "from memory.backends.firestore.v1 import *", "grpc", "google-cloud-firestore", "firestore"),
        ("firestore_v2", "from memory.backends.firestore.v2 import *", "google", "google-cloud-firestore", "firestore"),
    ],
)
def test_an_import_without_the_driver_is_told_the_command_in_the_words_of_the_registry(
    name: str, statement: str, blocked: str, missing: str, extra: str
) -> None:
    code = f"""
        import sys
        class Nowhere:
            def find_spec(self, module, path=None, target=None):
                if module.partition(".")[0] == {blocked!r}:
                    raise ModuleNotFoundError(f"No module named {{module!r}}", name=module)
        sys.meta_path.insert(0, Nowhere())
        from memory import create_store
        try:
            {statement}
        except ImportError as error:
            print(error)
        try:
            create_store({name!r})
        except Exception as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True, timeout=60)
    told = (
        f"the backend {name!r} needs {missing!r}, which is not installed: pip install 'agent-memory-backends[{extra}]'"
    )
    assert done.stdout.splitlines() == [told, told]


def test_a_driver_that_cannot_be_loaded_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "broken_backend.py").write_text("raise ImportError('libfast.so: cannot open shared object file')")
    (here / "needy_backend.py").write_text("import driver_that_is_nowhere.asyncio")
    monkeypatch.syspath_prepend(here)
    with pytest.raises(BackendUnavailable, match=r"libfast\.so"):
        create_store("broken_backend:Store")
    with pytest.raises(BackendUnavailable, match=r"pip install driver_that_is_nowhere$"):
        create_store("needy_backend:Store")


def test_an_installed_package_can_offer_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = importlib.metadata.EntryPoint("mine", "memory.backends.in_memory:InMemoryStore", registry.ENTRY_POINTS)
    shadow = importlib.metadata.EntryPoint("sqlite", "memory.backends.in_memory:InMemoryStore", registry.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [offered, shadow])
    assert type(create_store("mine")) is InMemoryStore
    assert type(create_store("mine://?feed=true")) is InMemoryStore
    assert registry.names() == [
        *("sqlite", "in_memory", "faiss", "redis", "postgres", "firestore_v1", "firestore_v2", "composite", "mine")
    ]
    assert isinstance(create_store("sqlite"), SqliteStore), "a package cannot take the place of a built-in backend"


WHEEL = {
    "acme_memory.py": """
from memory.backends.in_memory import InMemoryStore

class AcmeStore(InMemoryStore):
    name = "acme"

    def __init__(self, *, shelf: str = "top", **options):
        super().__init__(**options)
        self.shelf = shelf
""",
    "acme_needy.py": "import driver_that_is_nowhere",
    "acme_memory-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-memory\nVersion: 1.0\n",
    "acme_memory-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "acme_memory-1.0.dist-info/entry_points.txt": (
        "[memory.backends]\nacme = acme_memory:AcmeStore\nneedy = acme_needy:Store\nsqlite = acme_memory:AcmeStore\n"
    ),
    "acme_memory-1.0.dist-info/RECORD": "",
}


def test_a_backend_of_an_installed_distribution_is_chosen_by_the_environment(here: Path) -> None:
    wheel = here / "acme_memory-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, text in WHEEL.items():
            file.writestr(name, text)
    target = here / "installed"
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([sys.executable, *install, "--target", target, wheel], check=True, timeout=120)
    code = """
import json, memory
from memory import registry
with memory.MemoryManager() as it:
    it.add_sync("x")
    told = [it.store.name, it.store.shelf, it.store.count_sync()]
errors = []
for spec in ("acme://?shelv=x", "needy", "acm"):
    try:
        memory.create_store(spec)
    except memory.MemoryStoreError as error:
        errors.append(f"{type(error).__name__}: {error}")
print(json.dumps([told, registry.names(), memory.create_store("sqlite").name, errors]))
"""
    environment = {**os.environ, "PYTHONPATH": str(target), "MEMORY_BACKEND_TYPE": "acme://?shelf=middle"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    told, names, builtin, errors = json.loads(done.stdout)
    assert told == ["acme", "middle", 1]
    assert names == [*registry.BACKENDS, "acme", "needy"]
    assert builtin == "sqlite"
    assert "did you mean 'shelf'?" in errors[0]
    assert errors[1].startswith("BackendUnavailable: ")
    assert errors[1].endswith(": pip install driver_that_is_nowhere")
    assert "did you mean 'acme'?" in errors[2]


def test_no_backend_is_said_to_come_later_that_is_here() -> None:
    here = {*registry.BACKENDS, *(scheme for backend in registry.BACKENDS.values() for scheme in backend.schemes)}
    assert not here & set(registry.LATER)


def test_every_backend_is_in_the_lists_that_people_read() -> None:
    listed = ", ".join(registry.BACKENDS)
    assert listed in str(Settings.model_fields["backend_type"].description)
    assert listed in typing.get_args(command.Backend)[1].help


@pytest.mark.parametrize("name", list(registry.BACKENDS))
def test_every_line_of_the_table_leads_to_a_backend_of_that_name(name: str) -> None:
    cls = registry.named(name)
    assert issubclass(cls, MemoryStore)
    assert cls.name == name
