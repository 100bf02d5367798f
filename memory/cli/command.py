"""What all commands share: where the memory is and whose, how a command runs, and how it fails."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

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
        help="sqlite, in_memory, redis, postgres, a URL or module:Class (MEMORY_BACKEND_TYPE)",
    ),
]
File = Annotated[
    Path | None, typer.Option("--path", "-p", rich_help_panel=_WHERE, help="The file of the memory (MEMORY_PATH)")
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
        if reads and place is not None and not place.exists():
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


@contextmanager
def interruptible() -> Iterator[None]:
    """Around what waits for somebody to type: Ctrl-C ends it. In asyncio.run the first one cancels the task only, which
    hears of it when the wait is over."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():  # it is ignored, or not ours
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def confirm(question: str, otherwise: str = "nothing was changed") -> None:
    """Ask before what cannot be undone. Raises UsageProblem where nobody can be asked, Declined at a no."""
    from memory.cli.failures import Declined, UsageProblem

    if not sys.stdin.isatty():
        raise UsageProblem(f"{question} Nobody can be asked here: say --yes")
    try:
        with interruptible():
            agreed = typer.confirm(question, err=True)
    except typer.Abort as stop:
        print(file=sys.stderr)  # the question's line has no end
        if not isinstance(stop.__context__, EOFError):
            raise
        agreed = False  # who says nothing more does not say yes
    if not agreed:
        raise Declined(otherwise)


def parse_where(text: str | None) -> dict[str, Any] | None:
    """--where as a filter. Raises InvalidFilter when it is not a JSON object."""
    import json

    from memory.errors import InvalidFilter

    if text is None:
        return None
    try:
        where = json.loads(text)
    except ValueError as error:
        raise InvalidFilter(f"""--where is not JSON ({error}); write it as '{{"kind": "note"}}'""") from None
    if not isinstance(where, dict):
        raise InvalidFilter("""--where must be a JSON object, such as '{"kind": "note"}'""")
    return where


def parse_json(text: str, option: str) -> Any:
    """The value of an option that is JSON. Raises UsageProblem."""
    import json

    from memory.cli.failures import UsageProblem

    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"{option} is not JSON: {error}") from None


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_duration(text: str | None, option: str = "--ttl") -> float | None:
    """Seconds, or a number with s, m, h, d or w: 90, 30m, 12h, 7d. Raises UsageProblem."""
    from memory.cli.failures import UsageProblem

    if text is None:
        return None
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        return float(number) * unit
    except ValueError:
        raise UsageProblem(f"{option} takes seconds, or a number with s, m, h, d or w, not {text!r}") from None


def utf8(text: str, name: str) -> str:
    """A text from the command line or a stream, where bytes that are no UTF-8 come as surrogates. Raises UsageProblem."""
    from memory.cli.failures import UsageProblem

    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageProblem(f"{name} is not UTF-8") from None
    return text


def file_of(store: MemoryStore) -> Path | None:
    """The absolute path of the file a store lives in; None when it lives elsewhere."""
    path = getattr(store, "path", None)
    return Path(path).absolute() if isinstance(path, str | Path) else None


def segments(parts: list[str] | None) -> tuple[str, ...] | None:
    """--under as the store takes it."""
    return tuple(parts) if parts else None
