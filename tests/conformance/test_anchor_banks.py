"""One suite over every anchor bank."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder, Vectors
from service.anchors.qdrant import QdrantAnchorBank
from service.vocabulary.anchor import AnchorKey
from tests.toy_domain import anchor

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

TEXTS = ("gusts above the limit during a lift", "printer out of toner", "chest pain at rest", "été à 34 °C — 🔥")


@pytest.fixture(params=["edge", "qdrant"])
async def bank(request: pytest.FixtureRequest, tmp_path: Path, encoder: Encoder) -> AsyncIterator[AnchorBank]:
    made: AnchorBank = (
        EdgeAnchorBank(tmp_path, encoder)
        if request.param == "edge"
        else QdrantAnchorBank(AsyncQdrantClient(":memory:"), "anchors", encoder)
    )
    yield made
    await made.aclose()


async def test_what_is_added_is_found_by_its_own_key_and_comes_back_equal(bank: AnchorBank) -> None:
    state = {"nested": {"list": [1, 2.0, 2.5, None, True], "text": "☃"}, "empty": {}}
    anchors = [anchor(f"a{index}", text, state=state) for index, text in enumerate(TEXTS)]
    await bank.add(anchors)
    for wanted in anchors:
        best, *_ = await bank.nearest("kettle", wanted.key, 5)
        assert best.anchor == wanted
        assert best.similarity == pytest.approx(1.0, abs=1e-3)


async def test_an_id_is_kept_once_and_its_last_word_stands(bank: AnchorBank) -> None:
    first = anchor("same", TEXTS[0])
    await bank.add([first, first])
    await bank.add([replace(first, summary="corrected")])
    assert await bank.count("kettle") == 1
    (match,) = await bank.nearest("kettle", first.key, 5)
    assert match.anchor.summary == "corrected"


async def test_none_below_the_floor(bank: AnchorBank) -> None:
    await bank.add([anchor(f"a{index}", text) for index, text in enumerate(TEXTS)])
    key = AnchorKey("kitchen", 0, TEXTS[0])
    assert [match.anchor.id for match in await bank.nearest("kettle", key, 10)] == ["a0"]
    assert len(await bank.nearest("kettle", key, 10, floor=-1.0)) == len(TEXTS)


async def test_only_the_keys_own_category_and_domain(bank: AnchorBank) -> None:
    await bank.add([anchor("here"), anchor("elsewhere", category="garden"), anchor("foreign", domain="safety")])
    assert [match.anchor.id for match in await bank.nearest("kettle", anchor("here").key, 10)] == ["here"]
    assert await bank.nearest("kettle", AnchorKey("attic", 0, anchor("here").key.text), 10) == ()


@pytest.mark.parametrize(("turns", "found"), [(0, {3}), (1, {2, 3, 4}), (9, {0, 1, 2, 3, 4, 5})])
async def test_only_turns_near_the_keys_own(bank: AnchorBank, turns: int, found: set[int]) -> None:
    await bank.add([anchor(f"a{turn}", turn=turn) for turn in range(6)])
    matches = await bank.nearest("kettle", anchor("a3", turn=3).key, 10, turns=turns)
    assert {match.anchor.key.turn for match in matches} == found


async def test_best_first_and_no_more_than_asked(bank: AnchorBank) -> None:
    texts = ("the kettle boils", "the kettle is boiling over", "water boils in a kettle", "the cat sleeps")
    await bank.add([anchor(f"a{index}", text) for index, text in enumerate(texts)])
    matches = await bank.nearest("kettle", AnchorKey("kitchen", 0, texts[0]), 3, floor=-1.0)
    similarities = [match.similarity for match in matches]
    assert len(matches) == 3
    assert matches[0].anchor.id == "a0"
    assert similarities == sorted(similarities, reverse=True)


async def test_an_empty_bank_knows_nothing_and_says_so(bank: AnchorBank) -> None:
    await bank.add([])
    assert await bank.nearest("kettle", anchor("a").key, 5) == ()
    assert await bank.count("kettle") == 0
    assert await bank.healthy()


async def test_anchors_are_counted_per_domain(bank: AnchorBank) -> None:
    await bank.add([anchor(f"k{index}") for index in range(100)] + [anchor("s", domain="safety")])
    assert (await bank.count("kettle"), await bank.count("safety"), await bank.count("triage")) == (100, 1, 0)


async def test_fifty_searches_and_a_write_at_once(bank: AnchorBank) -> None:
    await bank.add([anchor(f"a{index}", text) for index, text in enumerate(TEXTS)])
    searches = [bank.nearest("kettle", AnchorKey("kitchen", 0, TEXTS[index % 4]), 1) for index in range(50)]
    answers, _ = await asyncio.gather(asyncio.gather(*searches), bank.add([anchor("new", category="garden")]))
    assert [match.anchor.id for (match,) in answers] == [f"a{index % 4}" for index in range(50)]


async def test_a_closed_bank_is_unavailable(bank: AnchorBank) -> None:
    await bank.add([anchor("a")])
    await bank.aclose()
    await bank.aclose()
    for call in (bank.add([anchor("b")]), bank.nearest("kettle", anchor("a").key, 1), bank.count("kettle")):
        with pytest.raises(AnchorBankUnavailable):
            await call
    assert not await bank.healthy()


async def test_what_edge_kept_is_there_after_reopening(tmp_path: Path, encoder: Encoder) -> None:
    first = EdgeAnchorBank(tmp_path, encoder)
    await first.add([anchor("a")])
    await first.aclose()
    second = EdgeAnchorBank(tmp_path, encoder)
    (match,) = await second.nearest("kettle", anchor("a").key, 5)
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
    asking = [asyncio.create_task(bank.nearest("kettle", key, 5, floor=-1.0)) for _ in range(5)]
    await asyncio.to_thread(gated.begun.wait, 5)
    asking[0].cancel()
    gated.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError) and answers[1:] == [()] * 4
    assert gated.encoded == [TEXTS[0]]
    await bank.aclose()


async def test_edge_never_answers_by_a_search_older_than_what_was_put_in(tmp_path: Path, encoder: Encoder) -> None:
    """`TEXTS[0]` is also what is put in: encoded with another, it is not kept waiting."""
    gated = Gated(encoder, TEXTS[0])
    bank = EdgeAnchorBank(tmp_path, gated)
    key = AnchorKey("kitchen", 0, TEXTS[0])
    older = asyncio.create_task(bank.nearest("kettle", key, 5))
    await asyncio.to_thread(gated.begun.wait, 5)
    await bank.add([anchor("a0", TEXTS[0]), anchor("a1", TEXTS[1])])
    newer = asyncio.create_task(bank.nearest("kettle", key, 5))
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
        await bank.nearest("kettle", anchor("a").key, 1)
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
        await bank.nearest("kettle", anchor("a").key, 1)
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
