"""Recorded history in a directory: Qdrant's engine in this process, no server."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    IsEmptyCondition,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    RangeFloat,
    SearchRequest,
    UpdateOperation,
)

from service.anchors import payload
from service.anchors.bank import SIMILARITY_FLOOR, AnchorBankUnavailable
from service.anchors.encoder import TextEncoder
from service.vocabulary.anchor import Anchor, AnchorKey, Match

T = TypeVar("T")

_Asked = tuple[str, AnchorKey, int, float, int, str]
"""Domain, key, limit, floor, turns and tenant: two tenants never share a search."""

CHUNK = 64
"""Anchors written at a time, so that a long `add` keeps no search waiting."""

THREADS = 2
"""One may write while another searches."""


class EdgeAnchorBank:
    """A directory that one process at a time may have open; searches are exact, a fraction of a millisecond at 20,000.

    The constructor opens it or makes it, blocking for a moment, and raises `AnchorBankUnavailable` if it cannot.
    """

    name = "edge"

    def __init__(self, directory: Path, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._directory = directory
        self._shard = _open(directory, encoder.size)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="anchors")
        self._writing = asyncio.Lock()
        self._asked: dict[_Asked, asyncio.Task[tuple[Match, ...]]] = {}
        self._closed = False

    async def add(self, anchors: Sequence[Anchor]) -> None:
        async with self._writing:
            for start in range(0, len(anchors), CHUNK):
                await self._run(partial(self._write, anchors[start : start + CHUNK]))
                self._asked.clear()  # a search that began before this must not answer one that begins after it
            await self._run(self._shard.flush)

    async def nearest(
        self, domain: str, key: AnchorKey, limit: int, floor: float = SIMILARITY_FLOOR, turns: int = 0, *, tenant: str
    ) -> tuple[Match, ...]:
        """A tenant's futures that have come to the same state ask the same at the same time: they share one search."""
        asked = (domain, key, limit, floor, turns, tenant)
        search = self._asked.get(asked)
        if search is None:
            search = self._asked[asked] = asyncio.create_task(self._run(partial(self._search, *asked)))
            search.add_done_callback(partial(self._answered, asked))
        return await asyncio.shield(search)

    async def count(self, domain: str) -> int:
        shared = Filter(must=[_equal("domain", domain), IsEmptyCondition(payload.TENANT)])
        return await self._run(partial(self._shard.count, CountRequest(filter=shared)))

    async def healthy(self) -> bool:
        try:
            await self._run(self._shard.info)
        except AnchorBankUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._threads.shutdown)
            await asyncio.to_thread(self._shard.close)

    async def _run(self, work: Callable[[], T]) -> T:
        """The one place where the engine's failures, all plain `Exception`, become ours."""
        if self._closed:
            raise AnchorBankUnavailable(f"the anchors in {self._directory} are closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Exception as error:
            raise AnchorBankUnavailable(f"the anchors in {self._directory}: {error}") from error

    def _answered(self, asked: _Asked, search: asyncio.Task[tuple[Match, ...]]) -> None:
        if self._asked.get(asked) is search:
            del self._asked[asked]
        if not search.cancelled():
            search.exception()  # whoever asked may have gone

    def _write(self, anchors: Sequence[Anchor]) -> None:
        vectors = self._encoder.encode([anchor.key.text for anchor in anchors])
        points = [
            Point(payload.point_id(anchor), vector.tolist(), payload.dump(anchor))
            for anchor, vector in zip(anchors, vectors, strict=True)
        ]
        self._shard.update(UpdateOperation.upsert_points(points))

    def _search(
        self, domain: str, key: AnchorKey, limit: int, floor: float, turns: int, tenant: str
    ) -> tuple[Match, ...]:
        query = Query.Nearest(self._encoder.encode([key.text])[0].tolist())
        wanted = _like(domain, key, turns, tenant)
        request = SearchRequest(query, limit, filter=wanted, with_payload=True, score_threshold=floor)
        return payload.matches((point.payload, point.score) for point in self._shard.search(request))


def _open(directory: Path, size: int) -> EdgeShard:
    try:
        shard = _load(directory) if any(directory.glob("segments/*")) else _create(directory, size)
        _index(shard)
        return shard
    except Exception as error:
        raise AnchorBankUnavailable(
            f"cannot open the anchors in {directory}, which one process at a time may have open: {error}"
        ) from error


def _load(directory: Path) -> EdgeShard:
    return EdgeShard.load(str(directory))


def _create(directory: Path, size: int) -> EdgeShard:
    directory.mkdir(parents=True, exist_ok=True)
    return EdgeShard.create(str(directory), EdgeConfig(vectors=EdgeVectorParams(size, Distance.Cosine)))


def _index(shard: EdgeShard) -> None:
    """Makes the payload indexes that are missing: all of a new shard's, some of an older one's or of one that died while it was made."""
    present = shard.info().payload_schema
    kinds = dict.fromkeys(payload.KEYWORDS, PayloadSchemaType.Keyword) | {payload.TURN: PayloadSchemaType.Integer}
    for field, kind in kinds.items():
        if field not in present:
            shard.update(UpdateOperation.create_field_index(field, kind))


def _like(domain: str, key: AnchorKey, turns: int, tenant: str) -> Filter:
    near = FieldCondition(payload.TURN, range=RangeFloat(gte=key.turn - turns, lte=key.turn + turns))
    return Filter(
        must=[_equal("domain", domain), _equal("key.category", key.category), near],
        should=[IsEmptyCondition(payload.TENANT), _equal(payload.TENANT, tenant)],
    )


def _equal(field: str, value: str) -> FieldCondition:
    return FieldCondition(field, match=MatchValue(value))
