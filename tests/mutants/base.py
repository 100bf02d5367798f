"""The shared code broken in one place: codec, cursors, validation, the public operations themselves."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from memory.backends.in_memory import InMemoryStore
from memory.codec import content_hash
from memory.ops import Read
from memory.store import Capabilities, bound, cursors, reads, settle, updating, view, watching, writes
from mutants.catalogue import caught, patched, replace


def read_any_cursor(cursor: str, digest: str, form: Any) -> Any:
    import base64

    return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=="), type=tuple[str, form])[1]  # type: ignore[valid-type]


patched("test_a_cursor_is_bound_to_its_question", "a cursor answers any question", (cursors, "read", read_any_cursor))


def hash_of_content(item: Any) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(item.content, order="deterministic"), digest_size=16).digest()


patched(
    "test_dedup_looks_only_at_its_own_owner_kind_and_namespace",
    "dedup finds other owners' items",
    (writes, "content_hash", lambda item: content_hash(replace(item, user_id=None))),
)
patched("test_equality_of_content_is_that_of_json", "dedup tells 1 from 1.0", (writes, "content_hash", hash_of_content))
patched(
    "test_what_is_not_equal_is_kept_apart",
    "dedup takes True for 1",
    (writes, "content_hash", lambda item: content_hash(replace(item, content=int(item.content) if item.content in (True, False) else item.content))),
)  # fmt: skip


def shallow_patch(target: Any, patch: Any) -> Any:
    if type(patch) is not dict:
        return patch
    merged = {**(target if type(target) is dict else {}), **patch}
    return {name: value for name, value in merged.items() if patch.get(name, ...) is not None}


def patch_keeping_null(target: Any, patch: Any) -> Any:
    if type(patch) is not dict:
        return patch
    merged = dict(target) if type(target) is dict else {}
    for name, value in patch.items():
        merged[name] = patch_keeping_null(merged.get(name), value)
    return merged


patched(
    "test_metadata_is_merged_and_null_removes",
    "null is stored instead of removing",
    (updating, "merge_patch", patch_keeping_null),
)
patched(
    "test_content_is_merged_as_rfc_7396_says",
    "a merge patch merges one level only",
    (updating, "merge_patch", shallow_patch),
)

_check = writes.Writes._check
patched(
    "test_the_owner_says_the_source_and_the_payload_does_not",
    "the payload says its source",
    (writes.Writes, "_check", lambda self, item, keep_source=False: _check(self, item, keep_source=True)),
)
patched("test_a_closed_store_says_so", "a closed store goes on", (bound.Bound, "_enter", lambda self: self._store))
patched(
    "test_an_argument_cannot_widen_a_view",
    "namespace= widens a view",
    (bound.Bound, "_narrow", lambda self, namespace, under: replace(self._scope, path=tuple(namespace), below=False) if namespace else self._scope),
)  # fmt: skip
patched(
    "test_bad_arguments_are_refused_before_any_io",
    "limits go unchecked",
    (reads, "check_limit", lambda limit, most=1000: limit),
)
patched(
    "test_bad_arguments_are_refused_before_any_io",
    "versions go unchecked",
    (writes, "check_version", lambda version: -1 if version is None else version),
)


def vague_error(op: Any, result: Any, settled: Any = settle._settle) -> Any:
    if result.status.value == "exists":
        raise KeyError(op.key)
    return settled(op, result)


patched("test_every_error_belongs_to_one_tree", "a driver's own error gets out", (settle, "_settle", vague_error))


async def first_page_only(self: Any, where: Any, *, namespace: Any = None, under: Any = None) -> int:
    page = await self.list(where, namespace=namespace, under=under, limit=100)
    return sum([await self.delete(item.id, namespace=item.namespace) for item in page])


patched(
    "test_delete_where_deletes_more_than_a_thousand",
    "deletion stops at 100",
    (writes.Writes, "delete_where", first_page_only),
)


async def one_by_one(self: Any, items: Any, **options: Any) -> Any:
    return [await self.put(item, **options) for item in items]


patched(
    "test_put_many_checks_every_item_before_any_is_written",
    "a batch is checked while it is written",
    (writes.Writes, "put_many", one_by_one),
)


async def update_without_cas(
    self: Any, id: str, *, namespace: Any = None, content: Any = None, metadata: Any = None, **_: Any
) -> Any:
    import asyncio

    item = await self.get(id, namespace=namespace)
    await asyncio.sleep(0)
    return await self.put(replace(item, content={**item.content, **content}, metadata={**item.metadata, **metadata}))


patched(
    "test_no_update_is_lost_among_64_writers",
    "update reads, then writes",
    (updating.Updates, "update", update_without_cas),
)


async def keep_events_of_all(
    self: Any, event: Any, scope: Any, accept: Any, digest: Any, original: Any = watching.Watches._change
) -> Any:
    return await original(self, event, replace(scope, user_id=None), accept, digest)


patched(
    "test_a_view_watches_only_its_own",
    "a view's watch forgets the user",
    (watching.Watches, "_change", keep_events_of_all),
)
patched(
    "test_whole_store_operations_are_refused_on_views",
    "a view can take a backup of everything",
    (view.View, "backup", lambda self, path, **options: self._store.backup(path, **options)),
)


@caught("test_what_was_returned_can_be_changed_without_changing_the_store", "items returned are the store's own")
class SharedItems(InMemoryStore):
    async def get(self, id: str, *, namespace: Any = None) -> Any:
        item = await super().get(id, namespace=namespace)
        cache = self.__dict__.setdefault("_cache", {})
        return item and cache.setdefault((item.key, item.version), item)


@caught("test_what_was_put_can_be_changed_without_changing_the_store", "items are kept by reference")
class KeptByReference(InMemoryStore):
    async def put(self, item: Any, **options: Any) -> Any:
        stored = await super().put(item, **options)
        kept = replace(stored, content=item.content, metadata=item.metadata)
        self.__dict__.setdefault("_mine", {})[stored.key] = kept
        return stored

    async def get(self, id: str, *, namespace: Any = None) -> Any:
        item = await super().get(id, namespace=namespace)
        return self.__dict__.get("_mine", {}).get(item.key, item) if item else None


@caught("test_reads_never_write", "a read writes")
class ReadsWrite(InMemoryStore):
    async def get_many(self, ids: Any, *, namespace: Any = None) -> Any:
        ids = list(ids)
        for id in ids:
            await self.touch(id, namespace=namespace)
        return await super().get_many(ids, namespace=namespace)


@caught("test_get_many_answers_in_order_with_none_for_the_absent", "get_many skips the absent")
class SkipsTheAbsent(InMemoryStore):
    async def _read(self, op: Read) -> Any:
        rows = await super()._read(op)
        return [row for row in rows if row is not None] + [None] * rows.count(None)


class Lenient(Capabilities):
    def check(self, backend: str, item: Any) -> None:
        pass


@caught(
    "test_what_a_backend_declares_it_cannot_hold_is_refused_before_any_io_and_absent",
    "what is declared is not enforced",
)
class HoldsMoreThanItDeclares(InMemoryStore):
    capabilities = Lenient(
        **{**msgspec.structs.asdict(InMemoryStore.capabilities), "namespaces": False, "forbidden_ids": r"\.\."}
    )
