"""The adapter against the real engine: what it reads, what it frees, whom it believes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.engine import Engine, installed, running, serving
from service.domains import catalog, examples
from service.settings import Settings
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.world.checkpoint import Checkpoint
from service.world.completions import reading
from service.world.local import LocalWorldModel
from service.world.model import BadForecast, Detail, Opening, Situation, Turn, WorldModel, WorldModelOverloaded
from service.world.step import Form, Marked, Words
from service.world.vllm import VllmWorldModel

AGREEMENT = 0.02
"""Between bf16 in vLLM and int8 in process, of any P(outcome)."""
FREED_S = 0.5
CACHE_HITS = "vllm:prefix_cache_hits_total"
MODELS = dict.fromkeys(catalog(), "world")


@pytest.fixture(scope="module")
def bundled() -> Checkpoint:
    return Checkpoint(Settings().checkpoint)


@pytest.fixture
async def model(bundled: Checkpoint, mini_engine: Engine) -> AsyncIterator[VllmWorldModel]:
    made = await connected(bundled, mini_engine)
    yield made
    await made.aclose()


async def connected(checkpoint: Checkpoint, *engines: Engine, models: dict[str, str] = MODELS) -> VllmWorldModel:
    urls = [engine.url for engine in engines]
    return await VllmWorldModel.connect(Marked(checkpoint.codec), checkpoint.manifest, models, urls)


def openings(tenant: str = "") -> list[Opening]:
    """Every worked case that there is."""
    return [
        opening(domain, number, tenant) for domain in catalog().values() for number in range(len(examples(domain.name)))
    ]


def opening(domain: Domain, number: int = 1, tenant: str = "") -> Opening:
    told = examples(domain.name)[number]["proposal"]
    state, action = domain.state_type.model_validate(told["state"]), Action.model_validate(told["action"])
    return Opening(domain, state, action, tenant=tenant)


def first(at: Opening, seed: int = 7, detail: Detail = Detail.odds) -> Situation:
    return Situation(at, (), at.state, seed, detail)


async def lived(model: WorldModel, at: Opening, seed: int, steps: int = 3) -> list[Forecast]:
    """A future, step after step, until it ends."""
    state, turns = at.state, list[Turn]()
    while len(turns) < steps:
        with suppress(BadForecast):
            forecast = await model.forecast(Situation(at, tuple(turns), state, seed, Detail.changes))
            state = at.domain.advance(state, at.action, forecast)
            turns.append(Turn(forecast, at.domain.continuation(state)))
            if not at.domain.outcomes[forecast.outcome].terminal:
                continue
        break
    return [turn.forecast for turn in turns]


def apart(one: Forecast, other: Forecast) -> float:
    return max(abs(one.probabilities[name] - other.probabilities[name]) for name in one.probabilities)


async def test_the_server_of_the_bundled_checkpoint_is_known_as_such(model: VllmWorldModel) -> None:
    assert await model.trouble() == ""


async def test_local_and_vllm_read_the_same_odds_and_draw_the_same_outcomes(
    model: VllmWorldModel, bundled: Checkpoint
) -> None:
    local = LocalWorldModel(bundled)
    alike = list[bool]()
    for at in openings():
        served, bundled_says = await model.forecast(first(at)), await local.forecast(first(at))
        assert apart(served, bundled_says) < AGREEMENT
        alike.append(served.outcome == bundled_says.outcome)
    assert sum(alike) >= 0.95 * len(alike)
    await local.aclose()


async def test_they_agree_after_a_turn_that_one_of_them_wrote(model: VllmWorldModel, bundled: Checkpoint) -> None:
    local = LocalWorldModel(bundled)
    at = opening(catalog()["safety"])
    wrote = await model.forecast(first(at, detail=Detail.prose))
    assert wrote.observation and wrote.ids
    turn = Turn(wrote, at.domain.continuation(at.state))
    after = Situation(at, (turn,), at.state, 7, Detail.odds)
    assert apart(await model.forecast(after), await local.forecast(after)) < AGREEMENT
    await local.aclose()


async def test_the_most_likely_twenty_tokens_tell_the_same_odds_where_an_engine_cannot_be_asked_for_ids(
    model: VllmWorldModel,
) -> None:
    for at in openings():
        exact = await model.forecast(first(at))
        for replica in model._replicas:
            replica.exact = False
        assert apart(exact, await model.forecast(first(replace(at)))) < 0.01
        for replica in model._replicas:
            replica.exact = True


async def test_equal_seeds_live_equal_futures_and_each_seed_its_own(model: VllmWorldModel) -> None:
    at = opening(catalog()["safety"])
    futures = [await lived(model, at, seed) for seed in (1, 2, 3, 4, 1)]
    assert futures[0] == futures[4]
    assert len({tuple(step.ids for step in future) for future in futures}) > 1


class CutShort(Marked):
    """A prompt that ends in the middle of a fact, where no outcome is due."""

    def prompt(self, opening: Opening) -> list[int]:
        prompt = super().prompt(opening)
        return prompt[: prompt.index(self._codec.marker_ids["<|is|>"])]


async def test_where_no_outcome_is_due_there_is_no_forecast(bundled: Checkpoint, mini_engine: Engine) -> None:
    form: Form = CutShort(bundled.codec)
    model = await VllmWorldModel.connect(form, bundled.manifest, MODELS, [mini_engine.url])
    with pytest.raises(BadForecast, match="no outcome"):
        await model.forecast(first(opening(catalog()["helpdesk"])))
    await model.aclose()


async def test_futures_share_what_they_have_in_common_and_tenants_share_nothing(
    model: VllmWorldModel, mini_engine: Engine
) -> None:
    at = opening(catalog()["triage"], tenant="north")
    await model.forecast(first(at))
    before = await mini_engine.metric(CACHE_HITS)
    await model.forecast(first(replace(at)))
    known = await mini_engine.metric(CACHE_HITS)
    assert known > before
    await model.forecast(first(replace(at, tenant="south")))
    assert await mini_engine.metric(CACHE_HITS) == known


async def test_all_futures_of_an_opening_begin_with_one_reading(model: VllmWorldModel, mini_engine: Engine) -> None:
    at = opening(catalog()["triage"], 3)
    before = await mini_engine.metric("vllm:request_success_total")
    await asyncio.gather(*[model.forecast(first(at, seed)) for seed in range(10)])
    assert await mini_engine.metric("vllm:request_success_total") == before + 1


async def test_a_cancelled_request_frees_the_engine(
    model: VllmWorldModel, mini_engine: Engine, bundled: Checkpoint
) -> None:
    stage = model._stage(opening(catalog()["safety"], 2))
    endless = Words(
        "a saga", [], frozenset(), frozenset([bundled.codec.step]), 1.0, np.random.default_rng(1), limit=1_800
    )
    tasks = [asyncio.create_task(model._said(stage, endless)) for _ in range(5)]
    await running(mini_engine, 5)
    for task in tasks:
        task.cancel()
    began = time.monotonic()
    await running(mini_engine, 0)
    assert time.monotonic() - began < FREED_S
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))


async def test_a_server_without_the_model_is_told_by_name(bundled: Checkpoint, mini_engine: Engine) -> None:
    model = await connected(bundled, mini_engine, models={"helpdesk": "helpdesk-adapter"})
    assert "serves world and no helpdesk-adapter" in await model.trouble()
    await model.aclose()


async def test_a_server_with_another_tokenizer_is_refused(
    tiny_checkpoint: Checkpoint, bundled: Checkpoint, mini_engine: Engine
) -> None:
    form = Marked(tiny_checkpoint.codec)
    model = await VllmWorldModel.connect(form, tiny_checkpoint.manifest, MODELS, [mini_engine.url])
    trouble = await model.trouble()
    assert "the tokenizer of world is not that of tiny" in trouble and tiny_checkpoint.codec.fingerprint in trouble
    with pytest.raises(Exception, match="tokenizer"):
        await model.forecast(first(opening(catalog()["helpdesk"])))
    await model.aclose()


async def test_a_server_with_other_weights_under_the_right_name_is_refused(
    bundled: Checkpoint, mini_engine: Engine
) -> None:
    story = bundled.manifest.domains["safety"]
    canary = story.canary.model_copy(update={"odds": tuple(reversed(story.canary.odds))})
    domains = bundled.manifest.domains | {"safety": story.model_copy(update={"canary": canary})}
    manifest = bundled.manifest.model_copy(update={"domains": domains})
    model = await VllmWorldModel.connect(Marked(bundled.codec), manifest, MODELS, [mini_engine.url])
    assert "the weights of world are not those of mini" in await model.trouble()
    await model.aclose()


@pytest.mark.skipif(
    not installed(), reason="vLLM is not installed here: `make test-vllm` installs its CPU build and runs this"
)
async def test_an_engine_whose_queue_is_full_says_so_and_is_not_taken_for_broken(bundled: Checkpoint) -> None:
    flags = ("--max-num-seqs=1", "--max-num-queued-reqs=1")
    async with serving(Settings().checkpoint, Path("build/test/vllm-full.log"), *flags) as engine:
        model = await connected(bundled, engine)
        stage = model._stage(opening(catalog()["safety"]))
        endless = Words(
            "a saga", [], frozenset(), frozenset([bundled.codec.step]), 1.0, np.random.default_rng(1), limit=1_500
        )
        tasks = [asyncio.create_task(model._said(stage, endless)) for _ in range(6)]
        done, _ = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert done and all(isinstance(task.exception(), WorldModelOverloaded) for task in done)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await model.trouble() == ""
        await model.aclose()


def test_a_reading_spells_out_every_sampling_parameter() -> None:
    told = reading("world", [1], [2], exact=True)
    assert {"top_p", "top_k", "min_p", "repetition_penalty", "temperature", "max_tokens"} <= set(told)
