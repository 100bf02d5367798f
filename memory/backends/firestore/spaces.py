"""The one document about the store itself: its format, its text analyser, and the space of its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.connection import Connection, Write, expecting
from memory.backends.firestore.faults import CALL_ERRORS, is_conflict, is_refusal, translate
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.records import FORMAT
from memory.errors import CorruptData, InvalidSetting
from memory.ops import Space

if TYPE_CHECKING:
    from memory.backends.firestore.store import FirestoreStore

ABOUT = "about"
SPACE = "space"


async def prepare(store: FirestoreStore[Any]) -> None:
    """Find, or write, what the store is. Raises InvalidSetting (another analyser), CorruptData (a newer format)."""
    connection, identity = store._connected(), store.analyser.identity
    found = await _read(store, Meter())
    if ABOUT not in found:
        write = Write()
        write.update.name = connection.name(store.names.store, ABOUT)
        write.update.fields["v"].integer_value = FORMAT
        write.update.fields["analyser"].string_value = identity
        try:
            await connection.commit([expecting(write, None)])
        except CALL_ERRORS as error:
            if not is_conflict(error):
                raise translate(error, connection.place.address, store.timeout) from error
            found = await _read(store, Meter())  # another store was faster
    if ABOUT in found:
        fields = found[ABOUT].fields
        if (values.get_integer(fields, "v") or 0) > FORMAT:
            raise CorruptData("this store has a newer format; upgrade agent-memory-backends")
        held = values.get_text(fields, "analyser")
        if held != identity:
            raise InvalidSetting(
                f"this store's texts were analysed by {held}, not by {identity}; open it with that language",
                setting="language",
            )
    _notice(store, found)


async def read_space(store: FirestoreStore[Any], meter: Meter) -> Space | None:
    """The space as it is now: another process may have written the first vector."""
    _notice(store, await store._connected().get(store.names.store, [SPACE], meter))
    return store._space


async def make_space(store: FirestoreStore[Any], space: Space) -> Space:
    """Make this the store's space, if it has none; the one it has then."""
    connection = store._connected()
    try:
        await connection.commit([space_write(connection, store, space)])
    except CALL_ERRORS as error:
        if not is_refusal(error):
            raise translate(error, connection.place.address, store.timeout) from error
    found = await read_space(store, Meter())
    assert found is not None
    return found


def space_write(connection: Connection[Any], store: FirestoreStore[Any], space: Space | None) -> Any:
    """The write that makes a space, if there is none yet."""
    assert space is not None
    write = Write()
    write.update.name = connection.name(store.names.store, SPACE)
    write.update.fields["dimension"].integer_value = space.dimension
    write.update.fields["embedder"].CopyFrom(values.optional_text(space.embedder))
    return expecting(write, None)


async def _read(store: FirestoreStore[Any], meter: Meter) -> dict[str, Any]:
    return await store._connected().get(store.names.store, [ABOUT, SPACE], meter)


def _notice(store: FirestoreStore[Any], found: dict[str, Any]) -> None:
    if SPACE in found:
        fields = found[SPACE].fields
        dimension = values.get_integer(fields, "dimension")
        if dimension:
            store._space = Space(values.get_text(fields, "embedder"), dimension)
