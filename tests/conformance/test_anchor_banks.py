"""One suite over every anchor bank."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient, models
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    PayloadSchemaType,
    Point,
    UpdateOperation,
)

from service.anchors import payload
from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder, Vectors
from service.anchors.qdrant import QdrantAnchorBank
from service.vocabulary.anchor import Anchor, AnchorKey
from tests.toy_domain import anchor

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

TEXTS = ("gusts above the limit during a lift", "printer out of toner", "chest pain at rest", "été à 34 °C — 🔥")


KINDS = ["edge", "qdrant"]
TENANTS = ("", "north", "south", "north:south")


def empty(kind: str, folder: Path, encoder: Encoder) -> AnchorBank:
    if kind == "edge":
        return EdgeAnchorBank(folder, encoder)
    return QdrantAnchorBank(AsyncQdrantClient(":memory:"), "anchors", encoder)


@pytest.fixture(params=KINDS)
async def bank(request: pytest.FixtureRequest, tmp_path: Path, encoder: Encoder) -> AsyncIterator[AnchorBank]:
    made = empty(request.param, tmp_path, encoder)
    yield made
    await made.aclose()


async def test_what_is_added_is_found_by_its_own_key_and_comes_back_equal(bank: AnchorBank) -> None:
    state = {"nested": {"list": [1, 2.0, 2.5, None, True], "text": "☃"}, "empty": {}}
    anchors = [anchor(f"a{index}", text, state=state) for index, text in enumerate(TEXTS)]
    await bank.add(anchors)
    for wanted in anchors:
        best, *_ = await bank.nearest("kettle", wanted.key, 5, tenant="")
        assert best.anchor == wanted
        assert best.similarity == pytest.approx(1.0, abs=1e-3)


async def test_an_id_is_kept_once_and_its_last_word_stands(bank: AnchorBank) -> None:
    first = anchor("same", TEXTS[0])
    await bank.add([first, first])
    await bank.add([replace(first, summary="corrected")])
    assert await bank.count("kettle") == 1
    (match,) = await bank.nearest("kettle", first.key, 5, tenant="")
    assert match.anchor.summary == "corrected"


async def test_none_below_the_floor(bank: AnchorBank) -> None:
    await bank.add([anchor(f"a{index}", text) for index, text in enumerate(TEXTS)])
    key = AnchorKey("kitchen", 0, TEXTS[0])
    assert [match.anchor.id for match in await bank.nearest("kettle", key, 10, tenant="")] == ["a0"]
    assert len(await bank.nearest("kettle", key, 10, floor=-1.0, tenant="")) == len(TEXTS)


async def test_only_the_keys_own_category_and_domain(bank: AnchorBank) -> None:
    await bank.add([anchor("here"), anchor("elsewhere", category="garden"), anchor("foreign", domain="safety")])
    assert [match.anchor.id for match in await bank.nearest("kettle", anchor("here").key, 10, tenant="")] == ["here"]
    assert await bank.nearest("kettle", AnchorKey("attic", 0, anchor("here").key.text), 10, tenant="") == ()


@pytest.mark.parametrize(("turns", "found"), [(0, {3}), (1, {2, 3, 4}), (9, {0, 1, 2, 3, 4, 5})])
async def test_only_turns_near_the_keys_own(bank: AnchorBank, turns: int, found: set[int]) -> None:
    await bank.add([anchor(f"a{turn}", turn=turn) for turn in range(6)])
    matches = await bank.nearest("kettle", anchor("a3", turn=3).key, 10, turns=turns, tenant="")
    assert {match.anchor.key.turn for match in matches} == found


async def test_best_first_and_no_more_than_asked(bank: AnchorBank) -> None:
    texts = ("the kettle boils", "the kettle is boiling over", "water boils in a kettle", "the cat sleeps")
    await bank.add([anchor(f"a{index}", text) for index, text in enumerate(texts)])
    matches = await bank.nearest("kettle", AnchorKey("kitchen", 0, texts[0]), 3, floor=-1.0, tenant="")
    similarities = [match.similarity for match in matches]
    assert len(matches) == 3
    assert matches[0].anchor.id == "a0"
    assert similarities == sorted(similarities, reverse=True)


async def test_an_empty_bank_knows_nothing_and_says_so(bank: AnchorBank) -> None:
    await bank.add([])
    assert await bank.nearest("kettle", anchor("a").key, 5, tenant="") == ()
    assert await bank.count("kettle") == 0
    assert await bank.healthy()


async def test_anchors_are_counted_per_domain(bank: AnchorBank) -> None:
    await bank.add([anchor(f"k{index}") for index in range(100)] + [anchor("s", domain="safety")])
    assert (await bank.count("kettle"), await bank.count("safety"), await bank.count("triage")) == (100, 1, 0)


# tenants


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(writes=st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from(["a", "b", "south:a"])), max_size=12))
def test_whatever_was_written_by_whom_everyone_finds_what_is_shared_and_their_own_and_nothing_else(
    kind: str, writes: list[tuple[str, str]], encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every write says which it was: of those under one id in one tenant, the last stands."""

    async def run() -> None:
        bank = empty(kind, tmp_path_factory.mktemp("anchors"), encoder)
        kept = {}
        for number, (tenant, id) in enumerate(writes):
            kept[tenant, id] = anchor(id, tenant=tenant, summary=f"write {number}")
            await bank.add([kept[tenant, id]])
        for asking in (*TENANTS, "stranger"):
            found = await bank.nearest("kettle", anchor("a").key, 50, tenant=asking)
            due = [each for (tenant, _), each in kept.items() if tenant in ("", asking)]
            assert sorted((match.anchor for match in found), key=repr) == sorted(due, key=repr)
        assert await bank.count("kettle") == sum(tenant == "" for tenant, _ in kept)
        await bank.aclose()

    asyncio.run(run())


async def test_another_tenants_anchors_take_no_place_among_the_few_that_are_asked_for(bank: AnchorBank) -> None:
    await bank.add([anchor(f"theirs{index}", TEXTS[0], tenant="south") for index in range(40)])
    await bank.add([anchor("shared", f"{TEXTS[0]} at noon"), anchor("ours", f"{TEXTS[0]} at night", tenant="north")])
    found = await bank.nearest("kettle", AnchorKey("kitchen", 0, TEXTS[0]), 2, tenant="north")
    assert {match.anchor.id for match in found} == {"shared", "ours"}


async def test_of_two_tenants_who_ask_the_same_at_once_each_is_told_their_own(bank: AnchorBank) -> None:
    await bank.add([anchor(f"of {tenant}", tenant=tenant) for tenant in TENANTS])
    asked = [bank.nearest("kettle", anchor("a").key, 5, tenant=tenant) for tenant in TENANTS]
    for tenant, found in zip(TENANTS, await asyncio.gather(*asked), strict=True):
        assert {match.anchor.id for match in found} == {"of ", f"of {tenant}"}


def before_tenants(id: str) -> tuple[str, dict[str, Any]]:
    """A point as it was written before there were tenants: its id, and its payload."""
    told = asdict(anchor(id))
    del told["tenant"]
    return str(uuid5(NAMESPACE_URL, f"premortem:anchor:{id}")), told | {"when": told["when"].isoformat()}


@pytest.fixture(params=KINDS)
async def old_bank(request: pytest.FixtureRequest, tmp_path: Path, encoder: Encoder) -> AsyncIterator[AnchorBank]:
    """One with a point in it, and the payload indexes of its time."""
    (id, told), vector = before_tenants("old"), encoder.encode([anchor("old").key.text])[0].tolist()
    made: AnchorBank
    if request.param == "edge":
        shard = EdgeShard.create(str(tmp_path), EdgeConfig(vectors=EdgeVectorParams(encoder.size, Distance.Cosine)))
        for field in ("domain", "key.category"):
            shard.update(UpdateOperation.create_field_index(field, PayloadSchemaType.Keyword))
        shard.update(UpdateOperation.create_field_index("key.turn", PayloadSchemaType.Integer))
        shard.update(UpdateOperation.upsert_points([Point(id, vector, told)]))
        shard.close()
        made = EdgeAnchorBank(tmp_path, encoder)
    else:
        client = AsyncQdrantClient(":memory:")
        shape = models.VectorParams(size=encoder.size, distance=models.Distance.COSINE)
        await client.create_collection("anchors", vectors_config=shape)
        await client.upsert("anchors", [models.PointStruct(id=id, vector=vector, payload=told)])
        made = QdrantAnchorBank(client, "anchors", encoder)
    yield made
    await made.aclose()


async def test_what_was_kept_before_there_were_tenants_is_shared_as_it_lies(old_bank: AnchorBank) -> None:
    assert await old_bank.count("kettle") == 1
    await old_bank.add([anchor("old", tenant="north", summary="their own")])
    for tenant, due in (("", [anchor("old")]), ("south", [anchor("old")])):
        found = await old_bank.nearest("kettle", anchor("old").key, 5, tenant=tenant)
        assert [match.anchor for match in found] == due
    assert len(await old_bank.nearest("kettle", anchor("old").key, 5, tenant="north")) == 2
    await old_bank.add([anchor("old", summary="corrected"), anchor("new")])
    assert await old_bank.count("kettle") == 2
    found = await old_bank.nearest("kettle", anchor("old").key, 5, tenant="south")
    assert [match.anchor.summary for match in found] == ["kettle new", "corrected"]


def test_what_is_shared_is_written_as_it_was_before_there_were_tenants() -> None:
    shared: Anchor = anchor("old")
    id, told = before_tenants("old")
    assert (payload.point_id(shared), payload.dump(shared)) == (id, told | {"when": "2026-03-01T08:30:00Z"})


async def test_fifty_searches_and_a_write_at_once(bank: AnchorBank) -> None:
    await bank.add([anchor(f"a{index}", text) for index, text in enumerate(TEXTS)])
    searches = [bank.nearest("kettle", AnchorKey("kitchen", 0, TEXTS[index % 4]), 1, tenant="") for index in range(50)]
    answers, _ = await asyncio.gather(asyncio.gather(*searches), bank.add([anchor("new", category="garden")]))
    assert [match.anchor.id for (match,) in answers] == [f"a{index % 4}" for index in range(50)]


async def test_a_closed_bank_is_unavailable(bank: AnchorBank) -> None:
    await bank.add([anchor("a")])
    await bank.aclose()
    await bank.aclose()
    for call in (bank.add([anchor("b")]), bank.nearest("kettle", anchor("a").key, 1, tenant=""), bank.count("kettle")):
        with pytest.raises(AnchorBankUnavailable):
            await call
    assert not await bank.healthy()


async def test_what_edge_kept_is_there_after_reopening(tmp_path: Path, encoder: Encoder) -> None:
    first = EdgeAnchorBank(tmp_path, encoder)
    await first.add([anchor("a")])
    await first.aclose()
    second = EdgeAnchorBank(tmp_path, encoder)
    (match,) = await second.nearest("kettle", anchor("a").key, 5, tenant="")
    assert match.anchor == anchor("a")
    await second.aclose()


async def test_edge_refuses_a_directory_that_is_already_open_and_names_it(tmp_path: Path, encoder: Encoder) -> None:
    first = EdgeAnchorBank(tmp_path, encoder)
    with pytest.raises(AnchorBankUnavailable, match=str(tmp_path)):
        EdgeAnchorBank(tmp_path, encoder)
    await first.aclose()


async def test_edge_leaves_the_event_loop_free_while_it_writes(tmp_path: Path, encoder: Encoder) -> None:
    bank = EdgeAnchorBank(tmp_path, encoder)
    writing = asyncio.create_task(bank.add([anchor(f"a{index}", f"{TEXTS[0]} {index}") for index in range(100)]))
    ticks = 0
    while not writing.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 10
    await bank.aclose()


class Gated:
    """An encoder that notes every text, and keeps one waiting until the gate opens."""

    size = Encoder.size

    def __init__(self, encoder: Encoder, kept: str) -> None:
        self._encoder, self._kept = encoder, kept
        self.encoded: list[str] = []
        self.begun, self.gate = threading.Event(), threading.Event()

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.encoded += texts
        if [*texts] == [self._kept]:
            self.begun.set()
            self.gate.wait(5)
        return self._encoder.encode(texts)


async def test_edge_searches_once_for_all_who_ask_the_same_at_once_though_one_leaves(
    tmp_path: Path, encoder: Encoder
) -> None:
    gated = Gated(encoder, TEXTS[0])
    bank = EdgeAnchorBank(tmp_path, gated)
    key = AnchorKey("kitchen", 0, TEXTS[0])
    asking = [asyncio.create_task(bank.nearest("kettle", key, 5, floor=-1.0, tenant="")) for _ in range(5)]
    await asyncio.to_thread(gated.begun.wait, 5)
    asking[0].cancel()
    gated.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError) and answers[1:] == [()] * 4
    assert gated.encoded == [TEXTS[0]]
    await bank.aclose()


async def test_edge_searches_for_every_tenant_anew(tmp_path: Path, encoder: Encoder) -> None:
    gated = Gated(encoder, "")
    bank = EdgeAnchorBank(tmp_path, gated)
    key = AnchorKey("kitchen", 0, TEXTS[0])
    await asyncio.gather(*[bank.nearest("kettle", key, 5, tenant=tenant) for tenant in ("north", "south", "north")])
    assert gated.encoded == [TEXTS[0]] * 2
    await bank.aclose()


async def test_edge_never_answers_by_a_search_older_than_what_was_put_in(tmp_path: Path, encoder: Encoder) -> None:
    """`TEXTS[0]` is also what is put in: encoded with another, it is not kept waiting."""
    gated = Gated(encoder, TEXTS[0])
    bank = EdgeAnchorBank(tmp_path, gated)
    key = AnchorKey("kitchen", 0, TEXTS[0])
    older = asyncio.create_task(bank.nearest("kettle", key, 5, tenant=""))
    await asyncio.to_thread(gated.begun.wait, 5)
    await bank.add([anchor("a0", TEXTS[0]), anchor("a1", TEXTS[1])])
    newer = asyncio.create_task(bank.nearest("kettle", key, 5, tenant=""))
    await asyncio.sleep(0)
    gated.gate.set()
    assert [match.anchor.id for match in await newer] == ["a0"]
    await older
    assert gated.encoded.count(TEXTS[0]) == 3
    await bank.aclose()


async def test_a_server_that_is_not_there_is_unavailable_at_once(encoder: Encoder) -> None:
    client = AsyncQdrantClient("http://127.0.0.1:9", check_compatibility=False)
    bank = QdrantAnchorBank(client, "anchors", encoder, timeout=1.0)
    began = time.perf_counter()
    with pytest.raises(AnchorBankUnavailable):
        await bank.nearest("kettle", anchor("a").key, 1, tenant="")
    assert not await bank.healthy()
    assert time.perf_counter() - began < 2.0
    await bank.aclose()


async def test_a_server_that_says_nothing_is_unavailable_after_the_timeout(encoder: Encoder) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = AsyncQdrantClient(f"http://127.0.0.1:{port}", check_compatibility=False)
    bank = QdrantAnchorBank(client, "anchors", encoder, timeout=0.2)
    with pytest.raises(AnchorBankUnavailable, match=r"0\.2 s"):
        await bank.nearest("kettle", anchor("a").key, 1, tenant="")
    await bank.aclose()
    server.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops", b"what?"])
async def test_a_server_that_answers_nonsense_is_unavailable(encoder: Encoder, answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = AsyncQdrantClient(f"http://127.0.0.1:{port}", check_compatibility=False)
    bank = QdrantAnchorBank(client, "anchors", encoder, timeout=2.0)
    with pytest.raises(AnchorBankUnavailable):
        await bank.count("kettle")
    await bank.aclose()
    server.close()
