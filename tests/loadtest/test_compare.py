"""What the comparison rests on: the same requests of one engine that costs what it says, one after another or side by side."""

import asyncio
import io
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtest.compare import NO_PEER, Plan, ask_engine, ask_peer, measure, show
from loadtest.served import free_port
from loadtest.stub_engine import MODEL, REQUEST_S, TOKEN_S, playing
from loadtest.vllm_bench import SAID, branches, client
from tests.vllm.test_vllm_bench import EVALUATION, FIRST, MASKED, engine


async def test_the_plain_loop_asks_the_same_and_waits_for_every_answer() -> None:
    log: list[tuple[str, Any]] = []
    async with engine(log) as url, client(url) as session:
        assert await ask_engine(session, ({}, branches(EVALUATION)))
    told = [prompt for what, prompt in log if what == "asked"]
    assert sorted(told) == sorted(list(each.prompt) for each in EVALUATION)
    assert [what for what, _ in log] == ["asked", "answered"] * len(EVALUATION)
    future = [[*FIRST, 10], [*FIRST, 10, 20, 6], [*FIRST, 10, 20, 6, 12]]
    at = told.index(future[1])
    assert told[at - 1 : at + 2] == future, "a future is played to its end before the next"
    assert {tuple(FIRST), tuple(MASKED)} <= {*map(tuple, told)}


async def test_an_answer_of_the_stub_engine_takes_as_long_however_many_ask(tmp_path: Path) -> None:
    with playing(tmp_path / "log") as stub:
        async with client(stub.url) as session:
            before, began = await stub.metric(SAID), time.perf_counter()
            await asyncio.gather(*(ask_peer(MODEL, session, ({}, [])) for _ in range(20)))
            took_s, said = time.perf_counter() - began, await stub.metric(SAID) - before
    assert said == 40
    assert REQUEST_S + 2 * TOKEN_S <= took_s < 10 * (REQUEST_S + 2 * TOKEN_S)


def test_a_stub_engine_takes_nobody_elses_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):  # noqa: SIM117
        with playing(tmp_path / "log", taken.getsockname()[1]):
            pass


async def test_service_and_plain_loop_have_the_same_said_and_the_service_is_faster() -> None:
    """A whole run, too short to mean anything; the stub itself stands in for a peer."""
    port = free_port()
    told = await measure(Plan(asked={2: 4}, history=20), port, f"http://127.0.0.1:{port}")
    rows = told["clients"]["c2"]
    assert all(row["whole"] == row["n"] == 4 for name, row in rows.items() if name != "ratio")
    assert rows["service"]["tokens"] == pytest.approx(rows["plain loop"]["tokens"], rel=0.1)
    assert rows["peer"]["tokens"] == 2
    assert rows["ratio"]["p50"] > 1.5
    for peer in (told["peer"], ""):
        show(told | {"peer": peer}, Console(file=(page := io.StringIO()), width=120))
        assert (NO_PEER in page.getvalue()) is (not peer)
