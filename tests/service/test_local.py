"""The bundled engine: futures share a prompt and nothing else, cost what they write, and never hold up the loop."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.world.checkpoint import MANIFEST, BadCheckpoint, Checkpoint
from service.world.codec import Codec
from service.world.local import LocalWorldModel
from service.world.model import BadForecast, Detail, Opening, Situation, Turn, WorldModelUnavailable
from service.world.step import LABEL_MASS, distribution
from service.world.tree import Engine
from tests.toy_domain import SCALE, KettleDomain, KettleState

DOMAIN = KettleDomain()
POUR, WAIT = Action(kind="pour", text="fill the cups to the brim"), Action(kind="wait")


@dataclass
class WatchedTree:
    """A real tree that notes what it is fed, slows down on demand, and fails on demand."""

    tree: Any
    watch: "WatchedEngine"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tree, name)

    def extend(self, tokens: dict[int, Sequence[int]]) -> Any:
        self.watch.fed.append({branch: tuple(ids) for branch, ids in tokens.items()})
        self.watch.passing.set()
        began = time.monotonic()
        time.sleep(self.watch.slow)
        self.watch.spans.append((began, time.monotonic()))
        if self.watch.broken:
            raise RuntimeError("the cores have melted")
        return self.tree.extend(tokens)


@dataclass
class WatchedEngine:
    """A real engine whose every pass can be seen."""

    engine: Engine
    slow: float = 0.0
    broken: bool = False
    prompts: list[int] = field(default_factory=list)
    fed: list[dict[int, tuple[int, ...]]] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    passing: threading.Event = field(default_factory=threading.Event)

    def tree(self, prompt: Sequence[int], room: int, tenant: str) -> WatchedTree:
        self.prompts.append(len(prompt))
        return WatchedTree(self.engine.tree(prompt, room, tenant), self)


@pytest.fixture
async def model(tiny_checkpoint: Checkpoint) -> AsyncIterator[LocalWorldModel]:
    made = LocalWorldModel(tiny_checkpoint)
    yield made
    await made.aclose()


@pytest.fixture
def engine(model: LocalWorldModel) -> WatchedEngine:
    watched = WatchedEngine(model._engine)
    model._engine = watched  # type: ignore[assignment]
    return watched


def opening(note: str = "a full kettle stands on the stove") -> Opening:
    return Opening(DOMAIN, KettleState(note=note), POUR)


def situation(at: Opening, seed: int, turns: Sequence[Turn] = (), detail: Detail = Detail.prose) -> Situation:
    return Situation(at, tuple(turns), at.state, seed, detail)


async def play(
    model: LocalWorldModel, at: Opening, seed: int, steps: int, detail: Detail = Detail.prose
) -> list[Forecast]:
    turns: list[Turn] = []
    for _ in range(steps):
        turns.append(Turn(await model.forecast(situation(at, seed, turns, detail)), WAIT))
    return [turn.forecast for turn in turns]


async def test_equal_seeds_play_equal_futures_and_other_seeds_others(tiny_checkpoint: Checkpoint) -> None:
    """One after the other, so that the passes are the same: beside others, int8 may round another way."""
    played: list[list[list[Forecast]]] = []
    for _ in range(2):
        model, at = LocalWorldModel(tiny_checkpoint), opening()
        played.append([await play(model, at, seed, 3) for seed in range(6)])
        await model.aclose()
    assert played[0] == played[1]
    assert len({repr(future) for future in played[0]}) == 6


async def test_asked_the_same_again_it_says_the_same_again(model: LocalWorldModel) -> None:
    at = opening()
    turns = [Turn(forecast, WAIT) for forecast in await play(model, at, 4, 2)]
    asked = situation(at, 4, turns, Detail.odds)
    first, again = await model.forecast(asked), await model.forecast(asked)
    assert first.outcome == again.outcome
    assert first.probabilities == pytest.approx(again.probabilities, abs=1e-3)
    opened = await model.forecast(situation(at, 5, detail=Detail.odds))
    assert any(abs(opened.probabilities[name] - p) > 0.02 for name, p in again.probabilities.items())


async def test_a_prompt_is_remembered_for_its_tenant_alone(model: LocalWorldModel) -> None:
    computed = list[int]()
    for tenant in ("north", "south", "north"):
        at = replace(opening(), tenant=tenant)
        await model.forecast(situation(at, 1, detail=Detail.odds))
        tree = model._stage(at).tree
        computed.append(tree.prompt_computed if tree else 0)
    assert computed[0] == computed[1] > computed[2] == 1


async def test_the_odds_cover_the_scale_and_are_the_same_for_all_futures_before_any_has_begun(
    model: LocalWorldModel,
) -> None:
    at = opening()
    first = await asyncio.gather(*[model.forecast(situation(at, seed)) for seed in range(30)])
    assert all(forecast.probabilities == first[0].probabilities for forecast in first)
    assert tuple(first[0].probabilities) == SCALE.names
    assert sum(first[0].probabilities.values()) == pytest.approx(1.0)
    assert {forecast.outcome for forecast in first} == set(SCALE.names)


async def test_outcomes_are_drawn_by_their_odds(model: LocalWorldModel) -> None:
    at = opening()
    drawn = await asyncio.gather(*[model.forecast(situation(at, seed, detail=Detail.odds)) for seed in range(1_500)])
    for name in SCALE.names:
        share = sum(forecast.outcome == name for forecast in drawn) / len(drawn)
        assert share == pytest.approx(drawn[0].probabilities[name], abs=0.05)


async def test_another_situation_has_other_odds(model: LocalWorldModel) -> None:
    calm, loose = [await model.forecast(situation(opening(note), 1)) for note in ("the lid is shut", "the lid is off")]
    assert calm.probabilities != loose.probabilities


async def test_the_prompt_is_computed_once_for_all_futures(model: LocalWorldModel, engine: WatchedEngine) -> None:
    at = opening()
    await asyncio.gather(*[play(model, at, seed, 3) for seed in range(10)])
    assert engine.prompts == [len(model._codec.prompt(at))]
    assert model.passes == 1 + len(engine.fed)
    assert model.tokens_written == 10 + sum(map(len, engine.fed)), "a token for every row that was read"


async def test_a_next_step_reads_only_what_is_new(model: LocalWorldModel, engine: WatchedEngine, codec: Codec) -> None:
    at = opening()
    for forecasts in await asyncio.gather(*[play(model, at, seed, 3) for seed in range(4)]):
        assert all(forecast.ids[-1] == codec.step for forecast in forecasts)
    turn = len(codec.action(WAIT))
    fed = [len(ids) for tokens in engine.fed for ids in tokens.values()]
    assert max(fed) == 1 + turn, "the last token that was written, and the action that follows it"
    read = {branch: () for branch in range(4)}
    for tokens in engine.fed:
        for branch, ids in tokens.items():
            read[branch] += ids
    assert sorted(len(ids) for ids in read.values()) == sorted(
        len(model._stages[id(at)].tree.tokens(branch))
        for branch in range(4)  # type: ignore[union-attr]
    )


async def test_futures_that_wait_together_are_read_in_one_pass(model: LocalWorldModel, engine: WatchedEngine) -> None:
    at, engine.slow = opening(), 0.05
    await asyncio.gather(*[play(model, at, seed, 4, Detail.odds) for seed in range(10)])
    assert len(engine.fed) < 3 * 10 / 2, "one by one it would be 30"
    assert max(map(len, engine.fed)) > 5


async def test_odds_alone_cost_one_pass_for_all_and_nothing_is_written(
    model: LocalWorldModel, engine: WatchedEngine
) -> None:
    at = opening()
    forecasts = await asyncio.gather(*[model.forecast(situation(at, seed, detail=Detail.odds)) for seed in range(10)])
    assert (model.passes, engine.fed) == (1, [])
    assert all(forecast.ids == () for forecast in forecasts)


async def test_a_cancelled_future_costs_nothing_more_and_the_others_go_on(
    model: LocalWorldModel, engine: WatchedEngine
) -> None:
    at, engine.slow = opening(), 0.03
    doomed, *others = (asyncio.create_task(play(model, at, seed, 4)) for seed in range(4))
    await asyncio.to_thread(engine.passing.wait, 5)
    doomed.cancel()
    with suppress(asyncio.CancelledError):
        await doomed
    began = len(engine.fed)  # one pass may have begun with it already
    assert all(len(future) == 4 for future in await asyncio.gather(*others))
    stage = model._stages[id(at)]
    assert len(engine.fed) > began + 3
    assert all(stage.branches[0] not in tokens for tokens in engine.fed[began + 1 :])


async def test_all_cancelled_nothing_is_computed(model: LocalWorldModel, engine: WatchedEngine) -> None:
    at, engine.slow = opening(), 0.05
    futures = [asyncio.create_task(play(model, at, seed, 4)) for seed in range(5)]
    await asyncio.to_thread(engine.passing.wait, 5)
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
    began = len(engine.fed)
    await asyncio.sleep(0.3)
    assert len(engine.fed) <= began + 1


async def test_closing_answers_everyone_who_waits(model: LocalWorldModel, engine: WatchedEngine) -> None:
    engine.slow = 0.1
    places = [opening(f"kettle number {number}") for number in range(3)]
    futures = [asyncio.create_task(play(model, at, seed, 5)) for at in places for seed in range(3)]
    await asyncio.to_thread(engine.passing.wait, 5)
    await asyncio.wait_for(model.aclose(), 2)
    answers = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 1)
    assert all(isinstance(answer, WorldModelUnavailable) for answer in answers)
    assert await model.trouble()
    with pytest.raises(WorldModelUnavailable, match="closed"):
        await model.forecast(situation(opening(), 1))


async def test_an_engine_that_fails_makes_all_of_its_batch_unavailable_and_answers_again_once_it_is_back(
    model: LocalWorldModel, engine: WatchedEngine
) -> None:
    at, engine.broken = opening(), True
    answers = await asyncio.gather(*[play(model, at, seed, 3) for seed in range(5)], return_exceptions=True)
    assert all(isinstance(answer, WorldModelUnavailable) for answer in answers)
    assert "melted" in str(answers[0])
    assert not await model.trouble()
    engine.broken = False
    assert len(await play(model, at, 9, 3)) == 3


async def test_the_loop_stays_awake_while_ten_futures_of_five_steps_are_imagined(
    model: LocalWorldModel, engine: WatchedEngine
) -> None:
    """It ticks on during every pass, each of which takes 0.3 s, and never works for 50 ms in a row itself."""
    engine.slow, ticks, at = 0.3, [(time.monotonic(), time.thread_time())], opening()

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.002)
            ticks.append((time.monotonic(), time.thread_time()))

    ticker = asyncio.create_task(tick())
    await asyncio.gather(*[play(model, at, seed, 5, Detail.odds) for seed in range(10)])
    ticker.cancel()
    assert len(engine.spans) >= 4
    for began, ended in engine.spans:
        assert sum(began < tick < ended for tick, _ in ticks) > 2
    assert max(after - before for (_, before), (_, after) in pairwise(ticks)) < 0.05


async def test_several_evaluations_at_once_do_not_hear_each_other(model: LocalWorldModel) -> None:
    places = [opening(f"kettle number {number}") for number in range(5)]
    alone = [await asyncio.gather(*[play(model, at, seed, 2, Detail.odds) for seed in range(4)]) for at in places]
    again = [opening(f"kettle number {number}") for number in range(5)]
    together = await asyncio.gather(
        *[asyncio.gather(*[play(model, at, seed, 2, Detail.odds) for seed in range(4)]) for at in again]
    )
    for one, other in zip(alone, together, strict=True):
        for before, after in zip(one, other, strict=True):
            assert before[0].outcome == after[0].outcome
            for left, right in zip(before, after, strict=True):
                assert left.probabilities == pytest.approx(right.probabilities, abs=0.02)


def test_odds_without_an_outcome_in_mind_are_a_bad_forecast() -> None:
    logits = np.log(np.array([0.3, 0.15, 0.55], np.float32))
    with pytest.raises(BadForecast, match="no outcome"):
        distribution(logits, (0, 1))
    assert distribution(logits, (0, 2)) == pytest.approx(np.array([0.3, 0.55]) / 0.85)
    assert 0.3 + 0.15 < LABEL_MASS
    with pytest.raises(BadForecast):
        distribution(np.full(3, np.nan, np.float32), (0, 1))


def test_a_checkpoint_with_another_file_or_another_codec_is_refused(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = tiny_checkpoint.graph.parent
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert Checkpoint(tmp_path).name == "tiny"
    story = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(story.replace(tiny_checkpoint.codec.fingerprint, "0" * 16))
    with pytest.raises(BadCheckpoint, match="codec"):
        Checkpoint(tmp_path)
    (tmp_path / MANIFEST).write_text(story)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(BadCheckpoint, match="not the file"):
        Checkpoint(tmp_path)
