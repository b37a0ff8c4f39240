"""One suite over every world model, and what each of them does beside it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from loadtest.engine import Engine
from service.anchors.bank import SIMILARITY_FLOOR, AnchorBankUnavailable
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.vocabulary.anchor import Anchor, AnchorKey, Match
from service.vocabulary.proposal import Action
from service.world.cases import CasesWorldModel
from service.world.checkpoint import Checkpoint
from service.world.local import LocalWorldModel
from service.world.model import BadForecast, Detail, Opening, Situation, Turn, WorldModel, WorldModelUnavailable
from service.world.scripted import Line, ScriptedWorldModel, Silence
from service.world.step import Marked
from service.world.vllm import VllmWorldModel
from tests.toy_domain import SCALE, KettleChanges, KettleDomain, KettleState, anchor

DOMAIN = KettleDomain()
POUR = Action(kind="pour")
OPENING = Opening(DOMAIN, KettleState(), POUR)
HISTORY = (
    [anchor(f"scald{index}") for index in range(6)]
    + [anchor(f"tea{index}", next_outcome="tea", outcome="tea") for index in range(3)]
    + [anchor("unreadable", changes={"colour": "red"}), anchor("off the scale", next_outcome="explosion")]
)


async def cases(tmp_path: Path, encoder: Encoder, tiny_checkpoint: Checkpoint) -> WorldModel:
    bank = EdgeAnchorBank(tmp_path, encoder)
    await bank.add(HISTORY)
    return CasesWorldModel(bank)


async def scripted(tmp_path: Path, encoder: Encoder, tiny_checkpoint: Checkpoint) -> WorldModel:
    changes = {"note": "the kettle whistles"}
    return ScriptedWorldModel([Line("waiting", {"waiting": 0.6, "scald": 0.4}, changes, "it whistles"), Line("tea")])


async def local(tmp_path: Path, encoder: Encoder, tiny_checkpoint: Checkpoint) -> WorldModel:
    return LocalWorldModel(tiny_checkpoint)


MODELS: dict[str, Callable[[Path, Encoder, Checkpoint], Awaitable[WorldModel]]] = {
    "cases": cases,
    "scripted": scripted,
    "local": local,
}


@pytest.fixture(params=[*MODELS, "vllm"])
async def model(
    request: pytest.FixtureRequest, tmp_path: Path, encoder: Encoder, tiny_checkpoint: Checkpoint
) -> AsyncIterator[WorldModel]:
    made: WorldModel
    if request.param == "vllm":
        engine: Engine = request.getfixturevalue("tiny_engine")
        form, names = Marked(tiny_checkpoint.codec), {DOMAIN.name: "world"}
        made = await VllmWorldModel.connect(form, tiny_checkpoint.manifest, names, [engine.url])
    else:
        made = await MODELS[request.param](tmp_path, encoder, tiny_checkpoint)
    yield made
    await made.aclose()


def situation(
    seed: int = 7, turns: Sequence[Turn] = (), opening: Opening = OPENING, detail: Detail = Detail.prose
) -> Situation:
    return Situation(opening, tuple(turns), opening.state, seed, detail)


async def test_probabilities_cover_the_scale_and_sum_to_one(model: WorldModel) -> None:
    forecast = await model.forecast(situation())
    assert set(forecast.probabilities) == set(SCALE.names)
    assert sum(forecast.probabilities.values()) == pytest.approx(1.0)
    assert min(forecast.probabilities.values()) >= 0.0


async def test_what_is_sampled_is_on_the_scale_and_of_the_domains_type(model: WorldModel) -> None:
    for seed in range(20):
        forecast = await model.forecast(situation(seed))
        assert forecast.outcome in SCALE.names
        assert isinstance(forecast.changes, KettleChanges)


async def test_equal_seeds_give_equal_futures_alone_or_together(model: WorldModel) -> None:
    alone = [await model.forecast(situation(seed)) for seed in range(5)]
    together = await asyncio.gather(*[model.forecast(situation(seed)) for seed in range(5)])
    assert alone == list(together)


@pytest.mark.parametrize("detail", Detail)
async def test_outcome_and_odds_do_not_depend_on_how_much_is_written(model: WorldModel, detail: Detail) -> None:
    full, asked = await model.forecast(situation()), await model.forecast(situation(detail=detail))
    assert asked.outcome == full.outcome
    assert asked.probabilities == pytest.approx(full.probabilities, abs=0.02)


async def test_a_future_goes_on_from_its_last_turn(model: WorldModel) -> None:
    first = await model.forecast(situation())
    second = await model.forecast(situation(turns=[Turn(first, POUR)]))
    assert second.outcome in SCALE.names


async def test_a_cancelled_forecast_ends_at_once_and_leaves_its_siblings_alone(model: WorldModel) -> None:
    cancelled, sibling = (asyncio.create_task(model.forecast(situation(seed))) for seed in (1, 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(cancelled, 0.5)
    assert cancelled.cancelled()
    assert (await sibling).outcome in SCALE.names


async def test_a_fresh_model_is_in_no_trouble(model: WorldModel) -> None:
    assert await model.trouble() == ""


class CountingBank:
    """A bank that gives out what it was given and counts how often it is asked."""

    name = "counting"

    def __init__(self, *matches: Match, failure: Exception | None = None) -> None:
        self.matches, self.failure, self.asked = matches, failure, 0
        self.tenants = list[str]()

    async def add(self, anchors: Sequence[Anchor]) -> None:
        self.matches += tuple(Match(added, 0.99) for added in anchors)

    async def nearest(
        self, domain: str, key: AnchorKey, limit: int, floor: float = SIMILARITY_FLOOR, turns: int = 0, *, tenant: str
    ) -> tuple[Match, ...]:
        self.asked += 1
        self.tenants.append(tenant)
        await asyncio.sleep(0.01)
        if self.failure:
            raise self.failure
        return self.matches

    async def count(self, domain: str) -> int:
        return len(self.matches)

    async def healthy(self) -> bool:
        return self.failure is None

    async def aclose(self) -> None: ...


async def test_cases_weigh_more_the_more_alike_they_are() -> None:
    near, far = Match(anchor("near"), 0.95), Match(anchor("far", next_outcome="tea"), 0.75)
    odds = (await CasesWorldModel(CountingBank(near, far)).forecast(situation())).probabilities
    assert odds["scald"] > 5 * odds["tea"] > 0 < odds["waiting"] < odds["tea"]


async def test_cases_of_the_same_kind_of_action_weigh_more() -> None:
    same, other = Match(anchor("same"), 0.9), Match(anchor("other", next_outcome="tea", action_kind="wait"), 0.9)
    odds = (await CasesWorldModel(CountingBank(same, other)).forecast(situation())).probabilities
    assert odds["scald"] > 3 * odds["tea"]


async def test_cases_follow_their_own_odds() -> None:
    model = CasesWorldModel(CountingBank(*(Match(case, 0.9) for case in HISTORY)))
    forecasts = [await model.forecast(situation(seed)) for seed in range(2_000)]
    seen = sum(forecast.outcome == "scald" for forecast in forecasts) / len(forecasts)
    assert seen == pytest.approx(forecasts[0].probabilities["scald"], abs=0.04)


async def test_cases_replay_what_followed_in_a_case_with_that_outcome() -> None:
    model = CasesWorldModel(CountingBank(*(Match(case, 0.9) for case in HISTORY)))
    for seed in range(20):
        forecast = await model.forecast(situation(seed))
        if forecast.observation:
            id = forecast.observation.removeprefix("observed in ")
            assert id.startswith(forecast.outcome)
            assert forecast.changes.note == f"what followed {id}"


async def test_cases_search_once_for_all_futures_of_an_evaluation_and_anew_for_the_next() -> None:
    bank = CountingBank(Match(anchor("a"), 0.9))
    model = CasesWorldModel(bank)
    await asyncio.gather(*[model.forecast(situation(seed)) for seed in range(5)])
    await model.forecast(situation(6))
    assert bank.asked == 1
    await bank.add([anchor("b", next_outcome="tea")])
    later = await model.forecast(situation(opening=Opening(DOMAIN, KettleState(), POUR)))
    assert bank.asked == 2
    assert later.probabilities["tea"] > 0.5


async def test_cases_search_for_every_tenant_anew_though_they_stand_in_the_same_place_at_once() -> None:
    bank = CountingBank(Match(anchor("a"), 0.9))
    model = CasesWorldModel(bank)
    openings = [Opening(DOMAIN, KettleState(), POUR, tenant=tenant) for tenant in ("north", "south", "north")]
    await asyncio.gather(*[model.forecast(situation(opening=each)) for each in openings])
    assert bank.tenants == ["north", "south"]


async def test_without_a_like_case_there_is_no_forecast() -> None:
    with pytest.raises(WorldModelUnavailable, match="no recorded cases like this one"):
        await CasesWorldModel(CountingBank()).forecast(situation())


async def test_a_bank_that_fails_makes_the_cases_unavailable_until_it_is_back() -> None:
    bank = CountingBank(Match(anchor("a"), 0.9), failure=AnchorBankUnavailable("down"))
    model = CasesWorldModel(bank)
    for _ in range(2):
        with pytest.raises(WorldModelUnavailable):
            await model.forecast(situation())
    bank.failure = None
    assert (await model.forecast(situation())).outcome in SCALE.names


async def test_a_script_is_said_turn_by_turn_and_its_last_line_repeats() -> None:
    model = ScriptedWorldModel([Line("waiting"), Line("tea")])
    turns: list[Turn] = []
    for _ in range(3):
        turns.append(Turn(await model.forecast(situation(turns=turns)), POUR))
    assert [turn.forecast.outcome for turn in turns] == ["waiting", "tea", "tea"]


async def test_scripts_differ_by_future_by_kind_of_action_and_when_masked() -> None:
    model = ScriptedWorldModel(
        [Line("tea")], [Line("scald")], by_kind={"wait": [[Line("waiting")]]}, masked=[Line("scald")]
    )
    assert [(await model.forecast(situation(seed))).outcome for seed in range(4)] == ["tea", "scald"] * 2
    waiting = Opening(DOMAIN, KettleState(), Action(kind="wait"))
    masked = Opening(DOMAIN, KettleState(), POUR, masked=True)
    assert (await model.forecast(situation(opening=waiting))).outcome == "waiting"
    assert (await model.forecast(situation(0, opening=masked))).outcome == "scald"


async def test_a_script_can_babble_fail_and_be_misread() -> None:
    model = ScriptedWorldModel(
        [Line("explosion")], [WorldModelUnavailable("down")], [Line("tea", changes={"colour": "red"})]
    )
    assert (await model.forecast(situation(0))).outcome == "explosion"
    with pytest.raises(WorldModelUnavailable, match="down"):
        await model.forecast(situation(1))
    with pytest.raises(BadForecast):
        await model.forecast(situation(2))


async def test_a_script_that_hangs_is_ended_by_cancellation_and_counts_it() -> None:
    model = ScriptedWorldModel([Silence.hang])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(model.forecast(situation()), 0.02)
    assert (model.calls, model.cancelled) == (1, 1)


def test_a_line_whose_probabilities_do_not_sum_to_one_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        Line("tea", {"tea": 0.5})
