"""An instruct model that nobody fine-tuned, behind the real engine: a random one that leans towards digits and quotes."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.engine import Engine, installed, launch
from service.domains import catalog, examples
from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.world.checkpoint import Manifest
from service.world.identity import Identity
from service.world.instruct import Instructed
from service.world.model import BadForecast, Detail, Opening, Situation, Turn
from service.world.vllm import VllmWorldModel
from tests.base_tokenizer import base_tokenizer
from tests.toy_domain import KettleDomain, KettleState, anchor

CACHE_HITS = "vllm:prefix_cache_hits_total"
KETTLE = KettleDomain()
FIELDS: dict[str, Domain] = {**catalog(), KETTLE.name: KETTLE}
COMPACT = '--structured-outputs-config={"backend":"xgrammar","disable_any_whitespace":true}'
"""Else JSON may be spaced out without end, and a weak model does."""
CALM = 4.0


@pytest.fixture(scope="module")
def form() -> Instructed:
    return Instructed(base_tokenizer(), FIELDS.values())


@pytest.fixture(scope="module")
def engine(form: Instructed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if not installed():
        pytest.skip("vLLM is not installed here: `make test-vllm` installs its CPU build and runs this")
    folder: Path = tmp_path_factory.mktemp("instruct")
    save(form, folder)
    served = launch(folder, Path("build") / "test" / "vllm.log", COMPACT)
    yield served
    served.stop()


@pytest.fixture
async def model(form: Instructed, engine: Engine) -> AsyncIterator[VllmWorldModel]:
    made = await VllmWorldModel.connect(form, story(form), dict.fromkeys(FIELDS, "world"), [engine.url])
    yield made
    await made.aclose()


def save(form: Instructed, folder: Path) -> None:
    """Dimension 0 leans towards every digit, a little less towards the quote that ends a text and the token that begins a turn."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    torch.manual_seed(5)
    size = Tokenizer.from_str(base_tokenizer()).get_vocab_size()
    shape = transformers.Qwen3Config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=4_096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=form.end,
    )
    network = transformers.Qwen3ForCausalLM(shape).eval()
    with torch.no_grad():
        table, head = network.model.embed_tokens.weight, network.lm_head.weight
        table.normal_(0, 1.0)
        head.normal_(0, 0.15)
        table[:, 0], head[:, 0] = CALM, 0.0
        head[[*form.digits]] /= 5
        head[[*form.digits], 0] = 3.0
        head[[*form.plain.text('"')[0], form.plain.added["<|im_start|>"]], 0] = 2.9
    network.to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(base_tokenizer())
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "model_max_length": 4_096}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def story(form: Instructed) -> Manifest:
    return Manifest(
        name="instruct", codec=form.fingerprint, made="2026-11-24", revision="test", arguments={}, data={}, files={}
    )


def opening(domain: Domain) -> Opening:
    """The first worked case, with a recorded one."""
    told = examples(domain.name)[0]["proposal"]
    state, action = domain.state_type.model_validate(told["state"]), Action.model_validate(told["action"])
    case = Match(anchor("a", outcome=domain.outcomes.names[0], summary="it went well"), 0.8)
    return Opening(domain, state, action, (case,))


def at(opening: Opening, seed: int = 7, *turns: Turn, detail: Detail = Detail.prose) -> Situation:
    return Situation(opening, turns, opening.state, seed, detail)


def is_of(domain: Domain, forecast: Forecast) -> bool:
    sums = sum(forecast.probabilities.values()) == pytest.approx(1.0)
    on_scale = forecast.outcome in domain.outcomes.names and set(forecast.probabilities) == set(domain.outcomes.names)
    return sums and on_scale and isinstance(forecast.changes, domain.forecast_type)


async def test_a_server_is_known_by_its_control_tokens(model: VllmWorldModel, form: Instructed) -> None:
    assert await model.trouble() == ""
    other = base_tokenizer().replace("<|im_start|>", "<|else|>").replace("<|endoftext|>", "<|im_start|>")
    stranger = Instructed(other, FIELDS.values())
    doubt = await Identity(stranger, story(stranger), {"safety": "world"})(model._replicas[0])
    assert "the tokenizer of world is not that of instruct" in doubt


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
async def test_forecasts_are_on_the_scale_and_of_the_domain_s_type(model: VllmWorldModel, domain: Domain) -> None:
    told = opening(domain)
    for seed in range(6):
        forecast = await model.forecast(at(told, seed))
        assert is_of(domain, forecast)
        assert forecast.observation and forecast.ids


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
async def test_a_future_goes_on_from_the_very_tokens_it_was_said_in(
    model: VllmWorldModel, form: Instructed, engine: Engine, domain: Domain
) -> None:
    told = opening(domain)
    first = await model.forecast(at(told))
    turn = Turn(first, domain.continuation(told.state))
    again = [*form.prompt(told), *form.turns(domain, [turn])]
    assert again[: len(form.prompt(told)) + len(first.ids)] == [*form.prompt(told), *first.ids]
    before = await engine.metric(CACHE_HITS)
    assert is_of(domain, await model.forecast(at(told, 7, turn, detail=Detail.odds)))
    assert await engine.metric(CACHE_HITS) - before >= len(form.prompt(told))
    twice = (turn, Turn(await model.forecast(at(told, 8, turn)), turn.action))
    assert is_of(domain, await model.forecast(at(told, 8, *twice)))


async def test_equal_seeds_live_equal_futures_and_each_seed_its_own(model: VllmWorldModel) -> None:
    told = opening(catalog()["safety"])
    forecasts = [await model.forecast(at(told, seed)) for seed in (1, 2, 3, 1)]
    assert forecasts[0] == forecasts[3]
    assert len({forecast.ids for forecast in forecasts}) == 3


async def test_a_masked_opening_is_read_too(model: VllmWorldModel) -> None:
    told = replace(opening(catalog()["triage"]), masked=True)
    assert is_of(told.domain, await model.forecast(at(told, detail=Detail.odds)))


async def test_a_schema_alone_would_let_a_model_begin_a_turn_inside_a_text(model: VllmWorldModel) -> None:
    """While it is told what may not be said, it never does; where it cannot be told, what it says is not believed."""
    told = opening(catalog()["helpdesk"])

    async def believed(seed: int) -> bool:
        with suppress(BadForecast):
            return bool((await model.forecast(at(told, seed))).ids)
        return False

    assert all([await believed(seed) for seed in range(20, 30)])
    model._replicas[0].held = False
    assert not all([await believed(seed) for seed in range(20, 30)])


async def test_a_model_that_spreads_its_odds_over_numbers_off_the_scale_is_not_believed(model: VllmWorldModel) -> None:
    """The kettle has three outcomes, and the model finds nine digits as likely as each other."""
    with pytest.raises(BadForecast, match="no outcome"):
        await model.forecast(at(Opening(KETTLE, KettleState(), Action(kind="pour"))))


async def test_what_is_said_without_end_is_a_bad_forecast(
    model: VllmWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.world.instruct.SAID_LIMIT", 4)
    with pytest.raises(BadForecast, match="without end"):
        await model.forecast(at(opening(catalog()["helpdesk"])))
