"""What all commands share: where the memory is and whose, how a command runs, and how it fails."""

from __future__ import annotations

import asyncio
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memory.registry import BACKENDS

if TYPE_CHECKING:
    from memory.manager import MemoryManager
    from memory.settings import Settings
    from memory.store import MemoryStore, View

app: typer.Typer = typer.Typer(
    name="memory",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WHERE = "Where and whose"
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        "-b",
        rich_help_panel=_WHERE,
        help=f"{', '.join(BACKENDS)}, a URL or module:Class (MEMORY_BACKEND_TYPE)",
    ),
]
File = Annotated[
    Path | None,
    # Whether it can be read the store tells, wherever its path comes from.
    typer.Option("--path", "-p", readable=False, rich_help_panel=_WHERE, help="The file of the memory (MEMORY_PATH)"),
]
Namespace = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace", "-n", rich_help_panel=_WHERE, help="Exact namespace; repeat for each segment of a path"
    ),
]
User = Annotated[str | None, typer.Option("--user", "-u", rich_help_panel=_WHERE, help="Only this user's memories")]
Agent = Annotated[str | None, typer.Option("--agent", "-a", rich_help_panel=_WHERE, help="Only this agent's memories")]
Session = Annotated[str | None, typer.Option("--session", "-s", rich_help_panel=_WHERE, help="Only of this session")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors (on stderr) included")]

Under = Annotated[
    list[str] | None,
    typer.Option("--under", rich_help_panel=_WHERE, help="This namespace and all below; repeat for each segment"),
]
WhereJson = Annotated[
    str | None,
    typer.Option("--where", "-w", metavar="JSON", help="""Filter, such as '{"metadata.score": {"$gte": 3}}'"""),
]

Embed = Annotated[
    Literal["now", "later"],
    typer.Option("--embed", help="later: store it without its vector, which `memory reembed` makes"),
]


@dataclass
class At:
    """Where a command works: backend, scope, and the form of its output."""

    backend: str | None = None
    path: Path | None = None
    namespace: list[str] | None = None
    user: str | None = None
    agent: str | None = None
    session: str | None = None
    json: bool = False
    settings: Settings | None = field(default=None, init=False)
    """What the memory was opened with."""

    @property
    def segments(self) -> tuple[str, ...] | None:
        """--namespace as the store takes it."""
        return tuple(self.namespace) if self.namespace else None

    @property
    def scoped(self) -> bool:
        """Whether a user, agent or session is named."""
        return any(one is not None for one in (self.user, self.agent, self.session))

    @property
    def hint(self) -> str:
        """What to do when nothing is found here."""
        if self.scoped or self.segments is not None:
            return "; other options of scope may see more, `memory namespaces` lists where there is something"
        return "; `memory add` remembers something, `memory import` a file"

    async def nothing(self, view: MemoryStore | View, *given: str) -> str:
        """What to say where nothing is shown: whether it is for the options given that narrow the question."""
        options = " and ".join(given)
        there = await view.count(namespace=self.segments) if given else 0
        if there:
            return f"no memory matches {options}; without {'it' if len(given) == 1 else 'them'} there are {there:,}"
        return f"there are no memories here{self.hint}"

    def manager(self) -> MemoryManager:
        """The memory that the options and the settings name, not yet open."""
        from memory.manager import MemoryManager
        from memory.telemetry import configure

        given: dict[str, Any] = {} if self.path is None else {"path": self.path}
        manager = MemoryManager(self.backend, **given)
        self.settings = settings = manager.settings
        if settings is not None and settings.log_format is None and settings.slow_seconds is not None:
            configure("console", "warning")  # who asks for slow operations wants to see them
        return manager

    @asynccontextmanager
    async def open(
        self, *, reads: bool = False, before: Callable[[MemoryStore], object] = lambda store: None
    ) -> AsyncIterator[MemoryStore]:
        """The whole store. ``reads``: the command makes no sense on a file that does not exist, so none is made.

        ``before`` looks at the store before it is opened, and a file made for it.
        """
        from memory.cli.output import note
        from memory.errors import BackendUnavailable

        manager = self.manager()
        place = file_of(manager.store)
        if reads and place is not None and not is_there(place):
            raise BackendUnavailable(
                f"there is no memory at {place} yet: `memory add` makes one, --path or MEMORY_PATH names another"
            )
        if not manager.store.capabilities.persistent and not self.json:
            note(f"{manager.store.name} forgets everything when this command ends")
        before(manager.store)
        async with manager:
            yield manager.store

    def view(self, store: MemoryStore) -> MemoryStore | View:
        """The store as the user, agent and session may see it."""
        if not self.scoped:
            return store
        return store.scoped(user_id=self.user, agent_id=self.agent, session_id=self.session)


EXAMPLES: dict[str, tuple[str, ...]] = {}
"""Each command's examples, as its --help and the reference show them."""
_ALWAYS = {"backend": Backend, "path": File, "json": Json}
OF_SCOPE = {"namespace": Namespace, "user": User, "agent": Agent, "session": Session}
Body = Callable[..., Coroutine[Any, Any, int | None]]


def command(name: str, *examples: str, panel: str, scope: bool = True, opens: bool = True) -> Callable[[Body], Body]:
    """Registers ``async def body(at: At, ...) -> exit code or None`` as a command, with the options of At added to its own.

    ``scope``: it takes --namespace, --user, --agent and --session. ``opens``: it takes --backend and --path.
    """
    shared: dict[str, Any] = (OF_SCOPE if scope else {}) | (_ALWAYS if opens else {"json": Json})

    def register(body: Body) -> Body:
        hints = typing.get_type_hints(body, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(body).parameters.values())[1:]
        ]
        common = [
            inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if option == "json" else None,
                annotation=annotation,
            )
            for option, annotation in shared.items()
        ]

        def runner(**given: Any) -> None:
            from memory.cli.failures import report

            at = At(**{option: given.pop(option) for option in shared})
            try:
                code = asyncio.run(body(at, **given))
                sys.stdout.flush()
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, typer.Abort | typer.Exit):
                    raise
                code = report(error, at.json)
            if code:
                raise typer.Exit(code)

        runner.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *common]
        )
        # A paragraph a line: the help breaks lines where the terminal ends, not where the source does.
        paragraphs = (inspect.getdoc(body) or "").split("\n\n")
        runner.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        EXAMPLES[name] = examples
        lines = "\n\n".join(f"[cyan]$ {example}[/cyan]" for example in examples)
        app.command(name, rich_help_panel=panel, epilog=f"[bold]Examples[/bold]\n\n{lines}")(runner)
        return body

    return register


def file_of(store: MemoryStore) -> Path | None:
    """The absolute path of the file a store lives in; None when it lives elsewhere."""
    path = getattr(store, "path", None)
    return Path(path).absolute() if isinstance(path, str | Path) else None


def is_there(place: Path) -> bool:
    """Whether a memory's file exists. Raises BackendUnavailable where nobody lets us look."""
    from memory.errors import BackendUnavailable

    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BackendUnavailable(f"{place} cannot be looked at: {error.strerror}") from None
    return True


def segments(parts: list[str] | None) -> tuple[str, ...] | None:
    """--under as the store takes it."""
    return tuple(parts) if parts else None
