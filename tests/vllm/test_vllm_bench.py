"""What the bench of the service's own cost rests on: the same requests in the same order, and nothing counted that was not played."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from loadtest.engine import installed
from loadtest.vllm_bench import (
    COMPLETIONS,
    CROWDS,
    QUICK,
    Answer,
    Asked,
    Branch,
    branches,
    client,
    gpu,
    measure,
    recorded,
    replay,
)

needs_vllm = pytest.mark.skipif(not installed(), reason="vLLM's CPU build is not installed (make vllm)")
FIRST, MASKED = [1, 2, 3], [7, 8]


def asked(prompt: list[int], said: list[int], began: float, ended: float) -> Asked:
    answer = {"choices": [{"token_ids": said} if said else {}]}
    return Asked.of(json.dumps({"prompt": prompt}).encode(), json.dumps(answer).encode(), began, ended)


def chain(branch: Branch) -> list[Any]:
    """The prompts, each with those that follow it."""
    return [list(branch.asked.prompt), *map(chain, branch.then)]


EVALUATION = [
    asked(MASKED, [], 0.0, 1.0),
    asked(FIRST, [], 0.0, 1.0),
    asked([*FIRST, 10], [20, 9], 1.1, 2.0),
    asked([*FIRST, 10], [30, 31, 9], 1.1, 2.5),
    asked([*FIRST, 11], [40, 9], 1.1, 2.2),
    asked([*FIRST, 10, 20, 6], [], 2.1, 3.0),
    asked([*FIRST, 10, 30, 31, 6], [], 2.6, 3.0),
    asked([*FIRST, 10, 20, 6, 12], [50, 9], 3.1, 4.0),
]


def test_every_request_follows_the_one_whose_words_it_goes_on_from() -> None:
    masked, first = branches(EVALUATION)
    assert chain(masked) == [MASKED]
    assert chain(first) == [
        FIRST,
        [[*FIRST, 10], [[*FIRST, 10, 20, 6], [[*FIRST, 10, 20, 6, 12]]]],
        [[*FIRST, 10], [[*FIRST, 10, 30, 31, 6]]],
        [[*FIRST, 11]],
    ]


def test_two_futures_that_said_the_same_are_followed_by_one_request_each() -> None:
    twins = [asked([*FIRST, 10], [20, 9], 1.1, ended) for ended in (2.0, 2.4)]
    onward = [asked([*FIRST, 10, 20, 6], [], began, began + 0.2) for began in (2.1, 2.5)]
    (first,) = branches([asked(FIRST, [], 0.0, 1.0), *twins, *onward])
    assert [[each.asked.began for each in twin.then] for twin in first.then] == [[2.1], [2.5]]


def test_a_request_sent_before_another_was_answered_did_not_wait_for_it() -> None:
    early = asked([*FIRST, 10], [20, 9], 0.5, 2.0)
    assert [root.asked for root in branches([asked(FIRST, [], 0.0, 1.0), early])] == [
        asked(FIRST, [], 0.0, 1.0),
        early,
    ]


@asynccontextmanager
async def engine(log: list[tuple[str, Any]]) -> AsyncIterator[str]:
    """Answers with two tokens, and notes when it is asked and when it has answered."""

    async def complete(request: web.Request) -> web.Response:
        prompt = (await request.json())["prompt"]
        log.append(("asked", prompt))
        await asyncio.sleep(0.02)
        log.append(("answered", prompt))
        return web.json_response({"choices": [{"token_ids": [5, 9]}]})

    app = web.Application()
    app.router.add_post(COMPLETIONS, complete)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_nothing_is_asked_again_before_what_it_follows_is_answered() -> None:
    log: list[tuple[str, Any]] = []
    async with engine(log) as url, client(url) as session:
        await replay(session, branches(EVALUATION))
    told = [prompt for what, prompt in log if what == "asked"]
    assert sorted(told) == sorted(list(each.prompt) for each in EVALUATION)
    assert sorted(told[:2]) == [FIRST, MASKED]
    assert ("asked", [*FIRST, 11]) in log[4:]
    assert log.index(("answered", [*FIRST, 10, 20, 6])) < log.index(("asked", [*FIRST, 10, 20, 6, 12]))


async def test_the_recorder_changes_nothing_and_notes_completions_alone() -> None:
    async with engine([]) as url, recorded(url) as (recorder, before), client(before) as session:
        async with session.post(COMPLETIONS, json={"prompt": FIRST}) as answer:
            assert await answer.json() == {"choices": [{"token_ids": [5, 9]}]}
        async with session.get("/health") as answer:
            assert answer.status == 404
    (noted,) = recorder.asked
    assert noted.known == (*FIRST, 5) and noted.began < noted.ended


@pytest.mark.parametrize(
    ("basis", "requested", "completed", "whole"),
    [
        ("simulated", 5, 5, True),
        ("simulated", 10, 10, False),
        ("simulated", 5, 4, False),
        ("history_only", 5, 5, False),
    ],
)
def test_only_what_was_played_as_asked_is_timed(basis: str, requested: int, completed: int, whole: bool) -> None:
    decision = {"basis": basis, "rollouts": {"requested": requested, "completed": completed}}
    assert Answer(1.0, decision).whole is whole
    assert not Answer(1.0, {}).whole


@pytest.mark.parametrize(("name", "there"), [("NVIDIA H100 80GB HBM3", True), ("CPU: AMD EPYC", False)])
def test_figures_of_a_gpu_are_told_where_there_was_one(tmp_path: Path, name: str, there: bool) -> None:
    told = {"name": name, "p50_ms": 100.0}
    assert gpu(tmp_path / "none.json") == {}
    (tmp_path / "gpu.json").write_text(json.dumps({"gpu": told}))
    assert gpu(tmp_path / "gpu.json") == ({"gpu": told} if there else {})


@needs_vllm
async def test_both_ways_have_the_engine_say_the_same_number_of_tokens() -> None:
    """A whole run, too short to mean anything."""
    told = await measure(QUICK)
    for state in ("warm", "cold"):
        tokens = told["engine"][state]["tokens"].values()
        assert (
            0 < max(tokens) <= 1.2 * min(tokens)
        )  # what else is in a batch moves bf16's last bits, and now and then a draw
    assert told["overhead_over_engine"] > 0
    assert [*told["service_overhead_ms"]] == [f"c{crowd}" for crowd in CROWDS]
    assert all(row["n"] == row["of"] for rows in told["scripted"].values() for row in rows.values())
    assert told["cpu_ms_per_evaluation"] > 0
