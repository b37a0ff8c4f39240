"""Recorded history on a Qdrant server."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.models import (
    Distance,
    FieldCondition,
    Filter,
    IsEmptyCondition,
    MatchValue,
    PayloadField,
    PayloadSchemaType,
    PointStruct,
    Range,
    VectorParams,
)

from service.anchors import payload
from service.anchors.bank import SIMILARITY_FLOOR, AnchorBankUnavailable
from service.anchors.encoder import TextEncoder
from service.vocabulary.anchor import Anchor, AnchorKey, Match

CHUNK = 64
"""Anchors sent at a time; the timeout is for each."""

CONFLICT = 409

SHARED = IsEmptyCondition(is_empty=PayloadField(key=payload.TENANT))


class QdrantAnchorBank:
    """One collection, made when it is first needed. `timeout` in seconds is for each exchange with the server.

    The client is the bank's from here on and is closed with it.
    """

    name = "qdrant"

    def __init__(self, client: AsyncQdrantClient, collection: str, encoder: TextEncoder, timeout: float = 2.0) -> None:
        self._client = client
        self._collection = collection
        self._encoder = encoder
        self._timeout = timeout
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._closed = False

    async def add(self, anchors: Sequence[Anchor]) -> None:
        await self._prepare()
        with self._translated():
            for start in range(0, len(anchors), CHUNK):
                points = await asyncio.to_thread(self._points, anchors[start : start + CHUNK])
                async with asyncio.timeout(self._timeout):
                    await self._client.upsert(self._collection, points, wait=True)

    async def nearest(
        self, domain: str, key: AnchorKey, limit: int, floor: float = SIMILARITY_FLOOR, turns: int = 0, *, tenant: str
    ) -> tuple[Match, ...]:
        await self._prepare()
        with self._translated():
            vectors = await asyncio.to_thread(self._encoder.encode, [key.text])
            async with asyncio.timeout(self._timeout):
                return await self._search(vectors[0].tolist(), _like(domain, key, turns, tenant), limit, floor)

    async def count(self, domain: str) -> int:
        await self._prepare()
        with self._translated():
            async with asyncio.timeout(self._timeout):
                shared = Filter(must=[_equal("domain", domain), SHARED])
                return (await self._client.count(self._collection, shared, exact=True)).count

    async def healthy(self) -> bool:
        try:
            with self._translated():
                async with asyncio.timeout(self._timeout):
                    await self._client.get_collections()
        except AnchorBankUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where the client's failures, of half a dozen families, become ours."""
        if self._closed:
            raise AnchorBankUnavailable(f"the anchors in {self._collection} are closed")
        try:
            yield
        except TimeoutError as error:
            raise AnchorBankUnavailable(f"qdrant gave no answer in {self._timeout:g} s") from error
        except Exception as error:
            raise AnchorBankUnavailable(f"qdrant: {type(error).__name__}: {error}") from error

    async def _search(self, vector: list[float], wanted: Filter, limit: int, floor: float) -> tuple[Match, ...]:
        found = await self._client.query_points(
            self._collection, vector, query_filter=wanted, limit=limit, score_threshold=floor, with_payload=True
        )
        return payload.matches((point.payload, point.score) for point in found.points)

    def _points(self, anchors: Sequence[Anchor]) -> list[PointStruct]:
        vectors = self._encoder.encode([anchor.key.text for anchor in anchors])
        return [
            PointStruct(id=payload.point_id(anchor), vector=vector.tolist(), payload=payload.dump(anchor))
            for anchor, vector in zip(anchors, vectors, strict=True)
        ]

    async def _prepare(self) -> None:
        """Makes the collection and its payload indexes, once; what is there already stays."""
        async with self._preparing:
            if not self._prepared:
                with self._translated():
                    async with asyncio.timeout(self._timeout):
                        await self._create()
                        await self._index()
                self._prepared = True

    async def _create(self) -> None:
        """Makes the collection unless it is there, or another process made it in between."""
        if await self._client.collection_exists(self._collection):
            return
        vectors = VectorParams(size=self._encoder.size, distance=Distance.COSINE)
        try:
            await self._client.create_collection(self._collection, vectors_config=vectors)
        except UnexpectedResponse as error:
            if error.status_code != CONFLICT:
                raise

    async def _index(self) -> None:
        kinds = dict.fromkeys(payload.KEYWORDS, PayloadSchemaType.KEYWORD) | {payload.TURN: PayloadSchemaType.INTEGER}
        for field, kind in kinds.items():
            await self._client.create_payload_index(self._collection, field, kind, wait=True)


def _like(domain: str, key: AnchorKey, turns: int, tenant: str) -> Filter:
    near = FieldCondition(key=payload.TURN, range=Range(gte=key.turn - turns, lte=key.turn + turns))
    return Filter(
        must=[_equal("domain", domain), _equal("key.category", key.category), near],
        should=[SHARED, _equal(payload.TENANT, tenant)],
    )


def _equal(field: str, value: str) -> FieldCondition:
    return FieldCondition(key=field, match=MatchValue(value=value))
