"""A stand-in for a Qdrant server: the REST calls that the service makes, over Qdrant Edge, Qdrant's own engine in this process.

No Qdrant server can be had from the registries used here. What is real is the client, its HTTP, the engine, and every fault between
them; what is not is the server's own HTTP, storage and cluster.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web
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
    Point,
    Query,
    RangeFloat,
    SearchRequest,
    UpdateOperation,
)

from loadtest.served import free_port

WELCOME = {"title": "qdrant - vector search engine", "version": version("qdrant-client")}
DONE = {"operation_id": 0, "status": "completed"}
LARGEST = 64 * 2**20

Json = Mapping[str, Any]


class StandIn:
    """One collection, whatever it is called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shard: EdgeShard | None = None
        self.app = web.Application(client_max_size=LARGEST)
        of = "/collections/{name}"
        self.app.add_routes(
            [
                web.get("/", self._welcome),
                web.get("/collections", self._collections),
                web.get(f"{of}/exists", self._exists),
                web.put(of, self._create),
                web.put(f"{of}/index", self._index),
                web.put(f"{of}/points", self._upsert),
                web.post(f"{of}/points/query", self._query),
                web.post(f"{of}/points/count", self._count),
            ]
        )

    async def _welcome(self, _: web.Request) -> web.Response:
        return web.json_response(WELCOME)

    async def _collections(self, _: web.Request) -> web.Response:
        return _told({"collections": []})

    async def _exists(self, _: web.Request) -> web.Response:
        return _told({"exists": self._shard is not None})

    async def _create(self, request: web.Request) -> web.Response:
        size = (await request.json())["vectors"]["size"]
        self._shard = EdgeShard.create(str(self._folder), EdgeConfig(vectors=EdgeVectorParams(size, Distance.Cosine)))
        return _told(True)

    async def _index(self, _: web.Request) -> web.Response:
        """So few points need none."""
        return _told(DONE)

    async def _upsert(self, request: web.Request) -> web.Response:
        points = [Point(told["id"], told["vector"], told["payload"]) for told in (await request.json())["points"]]
        self._kept.update(UpdateOperation.upsert_points(points))
        return _told(DONE)

    async def _query(self, request: web.Request) -> web.Response:
        told = await request.json()
        nearest = Query.Nearest(told["query"]["nearest"])
        asked = SearchRequest(
            nearest,
            told["limit"],
            filter=_filter(told["filter"]),
            with_payload=True,
            score_threshold=told["score_threshold"],
        )
        found = [
            {"id": str(each.id), "version": 0, "score": each.score, "payload": each.payload}
            for each in self._kept.search(asked)
        ]
        return _told({"points": found})

    async def _count(self, request: web.Request) -> web.Response:
        return _told({"count": self._kept.count(CountRequest(filter=_filter((await request.json())["filter"])))})

    @property
    def _kept(self) -> EdgeShard:
        if self._shard is None:
            raise web.HTTPNotFound
        return self._shard


@asynccontextmanager
async def standing_in(folder: Path) -> AsyncIterator[int]:
    """Its port. `folder` is made."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # its clients are cut off on purpose
    runner = web.AppRunner(StandIn(folder).app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


def _filter(told: Json) -> Filter:
    must, should = ([_condition(each) for each in told.get(how) or ()] for how in ("must", "should"))
    return Filter(must=must, should=should or None)


def _condition(told: Json) -> Any:
    if told.get("is_empty"):
        return IsEmptyCondition(told["is_empty"]["key"])
    if told.get("match"):
        return FieldCondition(told["key"], match=MatchValue(told["match"]["value"]))
    return FieldCondition(told["key"], range=RangeFloat(gte=told["range"]["gte"], lte=told["range"]["lte"]))


def _told(result: Any) -> web.Response:
    return web.json_response({"result": result, "status": "ok", "time": 0.0})
