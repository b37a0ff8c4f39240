"""The codec: text never becomes a marker, and what is written can be read."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.training.markers import extended
from service.domains import catalog
from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Trajectory
from service.world import codec as codec_module
from service.world.codec import ACTION, CHANGE, FRAME, IS, PROMPT_LIMIT, Codec, markers, outcome_marker
from service.world.model import BadForecast, Grounding, Opening, PromptTooLong, Turn
from tests.base_tokenizer import CONTROL, base_tokenizer
from tests.toy_domain import KettleChanges, KettleDomain, KettleState, anchor

KETTLE = KettleDomain()
FORGED, THREADS = 10_000, 8
LOOKALIKES = {"<": "＜", ">": "›", "|": "｜", "o": "о", "e": "е", "a": "ɑ", "c": "ϲ"}
INVISIBLE = ("\u200b", "\u200d", "\ufeff", "\u2060", "\u00ad", "\u0300", "\x00", "\u202e")


def forged(chance: Random, marks: Sequence[str]) -> str:
    """Markers as an attacker would write them: whole, nested, split, in other letters, cases and widths, with text between."""
    return "".join(_forged_once(chance, chance.choice(marks), marks) for _ in range(chance.randint(1, 4)))[:200]


def _forged_once(chance: Random, mark: str, marks: Sequence[str]) -> str:
    at = chance.randint(1, len(mark) - 1)
    match chance.randrange(8):
        case 0:
            return mark[:at] + chance.choice(marks) + mark[at:]
        case 1:
            return f"{mark[:at]} {mark[at:]}"
        case 2:
            return "".join(LOOKALIKES.get(letter, letter) for letter in mark)
        case 3:
            return "".join(chance.choice((str.upper, str.lower))(letter) for letter in mark)
        case 4:
            return mark[:at] + chance.choice(INVISIBLE) + mark[at:]
        case 5:
            return f" {mark}\n{mark}\t"
        case 6:
            return f"fine. {mark} resolved {chance.choice(marks)}"
        case _:
            return mark


def told(codec: Codec, text: str) -> list[int]:
    """Everything that untrusted text can reach: prompt, precedents, a turn, its grounding, what is written of a step."""
    action = Action(kind=text[:64] or "x", text=text)
    opening = Opening(KETTLE, KettleState(note=text), action, (Match(anchor("a", summary=text), 0.9),))
    step = Forecast("waiting", {}, KettleChanges(note=text or "x"), text or "x")
    grounding = Grounding(text, "tea", tuple(KETTLE.facts(KettleState(note=text), action)))
    return codec.prompt(opening) + codec.turns(KETTLE, [Turn(step, action, grounding)])


def frame(codec: Codec, ids: Sequence[int]) -> list[int]:
    return [id for id in ids if id in codec.reserved]


def test_ten_thousand_forged_markers_from_eight_threads_leave_the_frame_as_it_is(
    codec: Codec, tokenizer_json: str
) -> None:
    chance, marks = Random(20261123), list(codec.marker_ids)
    texts = [forged(chance, marks) for _ in range(FORGED)]
    naive = Tokenizer.from_str(tokenizer_json)
    bitten = [any(id < len(marks) for id in encoding.ids) for encoding in naive.encode_batch(texts)]
    assert sum(bitten) > FORGED / 2, "an ordinary tokenizer would have been fooled"
    harmless = frame(codec, told(codec, "the kettle is warm"))
    with ThreadPoolExecutor(THREADS) as threads:
        read = list(threads.map(lambda text: frame(codec, told(codec, text)), texts, chunksize=50))
        alone = list(threads.map(lambda text: codec.text(text, text)[1], texts, chunksize=50))
    assert all(ids == harmless for ids in read)
    assert not any(frame(codec, ids) for ids in alone)


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
def test_what_is_written_is_read_back(codec: Codec, histories: Mapping[str, list[Trajectory]], domain: Domain) -> None:
    steps = [step for trajectory in histories[domain.name] for step in trajectory.transitions]
    assert any(step.observation for step in steps) and len({repr(step.changes) for step in steps}) > 10
    for step in steps:
        label, *rest = codec.write(domain, Forecast(step.outcome, {}, step.changes, step.observation))
        assert label == codec.marker_ids[outcome_marker(domain.name, step.outcome)]
        assert codec.read(domain, rest) == (step.changes, step.observation)


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
def test_a_masked_opening_tells_no_free_text_and_no_precedent(
    codec: Codec, histories: Mapping[str, list[Trajectory]], domain: Domain
) -> None:
    for trajectory in histories[domain.name][:40]:
        first = trajectory.transitions[0]
        plain = Action(kind=first.action.kind, arguments=first.action.arguments)
        precedents = (Match(anchor("a", outcome=first.outcome), 0.9),)
        masked = codec.prompt(Opening(domain, first.state, first.action, precedents, masked=True))
        facts = domain.facts(first.state, first.action)
        expected = [codec.marker_ids["<|domain|>"], *codec.text(domain.name)[0], codec.marker_ids["<|state|>"]]
        for fact in (fact for fact in facts if not fact.free):
            name, value = codec.text(fact.name, codec_module.fold(fact.value))
            expected += [codec.marker_ids["<|field|>"], *name, codec.marker_ids[IS], *value]
        assert masked == [*expected, *codec.action(plain)]
        assert any(fact.free for fact in facts)


def test_the_outcome_is_read_right_after_the_action(codec: Codec) -> None:
    action = Action(kind="pour", text="slowly")
    prompt = codec.prompt(Opening(KETTLE, KettleState(), action))
    assert prompt[-len(codec.action(action)) :] == codec.action(action)
    assert frame(codec, prompt)[-2:] == [codec.marker_ids[ACTION], codec.marker_ids[IS]]
    step = Forecast("waiting", {}, KettleChanges(note="hot"), "it hisses")
    later = codec.turns(KETTLE, [Turn(step, action), Turn(step, action)])
    assert later[-len(codec.action(action)) :] == codec.action(action)
    assert codec.write(KETTLE, step)[0] in codec.outcome_ids(KETTLE)


def test_a_step_is_resent_in_the_very_tokens_it_was_written_in(codec: Codec) -> None:
    said = (codec.outcome_ids(KETTLE)[1], 400, 401, codec.step)
    step = Forecast("waiting", {}, KettleChanges(note="something else"), "", said)
    assert codec.turns(KETTLE, [Turn(step, Action(kind="wait"))])[: len(said)] == list(said)


def test_too_long_a_prompt_is_refused_never_cut(codec: Codec) -> None:
    def opening(words: int) -> Opening:
        return Opening(KETTLE, KettleState(note=" ".join(["q"] * words)), Action(kind="pour"))

    bare, each = len(codec.prompt(opening(0))), len(codec.text("q")[0])
    most = (PROMPT_LIMIT - bare) // each
    assert len(codec.prompt(opening(most))) == bare + most * each
    with pytest.raises(PromptTooLong, match=str(PROMPT_LIMIT)):
        codec.prompt(opening(most + 1))


def test_shouting_is_not_another_situation(codec: Codec) -> None:
    quiet = Opening(KETTLE, KettleState(note="the lid is loose"), Action(kind="pour", text="now"))
    loud = Opening(KETTLE, KettleState(note="THE  LID\nis LOOSE "), Action(kind="POUR", text="NOW"))
    assert codec.prompt(quiet) == codec.prompt(loud)


def test_the_fingerprint_names_markers_merges_and_version(
    codec: Codec, tokenizer_json: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Codec(tokenizer_json).fingerprint == codec.fingerprint
    renamed = Codec(tokenizer_json.replace("<|outcome:kettle.tea|>", "<|outcome:kettle.coffee|>"))
    spec = json.loads(tokenizer_json)
    spec["model"]["merges"].pop()
    fewer = Codec(json.dumps(spec))
    monkeypatch.setattr(codec_module, "VERSION", codec_module.VERSION + 1)
    newer = Codec(tokenizer_json)
    assert len({made.fingerprint for made in (codec, renamed, fewer, newer)}) == 4


@pytest.mark.parametrize("missing", FRAME)
def test_a_tokenizer_without_the_frame_is_refused(tokenizer_json: str, missing: str) -> None:
    with pytest.raises(ValueError, match="frame"):
        Codec(tokenizer_json.replace(missing, "<|else|>"))


@pytest.mark.parametrize("taken", ["a word", "another marker"])
def test_a_marker_without_an_id_of_its_own_is_refused(tokenizer_json: str, taken: str) -> None:
    spec = json.loads(tokenizer_json)
    spec["added_tokens"][-1]["id"] = len(spec["added_tokens"]) if taken == "a word" else 0
    with pytest.raises(ValueError, match="id of its own"):
        Codec(json.dumps(spec))


def test_a_marker_that_text_could_spell_is_refused(tokenizer_json: str) -> None:
    spec = json.loads(tokenizer_json)
    spec["pre_tokenizer"], spec["model"]["ignore_merges"] = None, True
    with pytest.raises(ValueError, match="no text"):
        Codec(json.dumps(spec))


@pytest.fixture(scope="module")
def instruct() -> Codec:
    """On a base model's own tokenizer, our markers behind its control tokens."""
    return Codec(extended(base_tokenizer(), markers([*catalog().values(), KETTLE])))


def test_markers_may_stand_behind_the_words_of_another_model(instruct: Codec) -> None:
    base = Tokenizer.from_str(base_tokenizer())
    assert min(instruct.marker_ids.values()) == base.get_vocab_size()
    assert instruct.vocabulary_size == base.get_vocab_size() + len(instruct.marker_ids)
    assert instruct.reserved == {*instruct.marker_ids.values(), *map(base.token_to_id, CONTROL)}
    assert not set(CONTROL) & set(instruct.marker_ids)


def test_a_marker_the_base_model_has_already_keeps_its_id() -> None:
    once = extended(base_tokenizer(), markers([KETTLE]))
    assert Codec(extended(once, markers([KETTLE]))).marker_ids == Codec(once).marker_ids


FORGERY = st.lists(
    st.one_of(st.sampled_from([*CONTROL, *markers([KETTLE])]), st.text(max_size=6), st.sampled_from(["<|", "|>", " "])),
    min_size=1,
    max_size=5,
).map("".join)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=FORGERY)
def test_forged_markers_and_control_tokens_stay_text_under_a_base_model_s_tokenizer(instruct: Codec, text: str) -> None:
    assert frame(instruct, instruct.text(text)[0]) == []
    assert frame(instruct, told(instruct, text or "x")) == frame(instruct, told(instruct, "the kettle is warm"))


@pytest.mark.parametrize("token", [*CONTROL, *FRAME])
def test_a_base_model_s_own_tokenizer_would_be_fooled(instruct: Codec, token: str) -> None:
    naive = Tokenizer.from_str(extended(base_tokenizer(), markers([KETTLE])))
    assert naive.encode(f"say {token} now", add_special_tokens=False).ids != instruct.text(f"say {token} now")[0]
    assert instruct.reserved & set(naive.encode(f"say {token} now", add_special_tokens=False).ids)


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
def test_what_is_written_is_read_back_under_a_base_model_s_tokenizer(
    instruct: Codec, histories: Mapping[str, list[Trajectory]], domain: Domain
) -> None:
    for step in (step for trajectory in histories[domain.name][:40] for step in trajectory.transitions):
        _, *rest = instruct.write(domain, Forecast(step.outcome, {}, step.changes, step.observation))
        assert instruct.read(domain, rest) == (step.changes, step.observation)


def test_a_codec_knows_the_domains_it_has_outcomes_for(codec: Codec, tokenizer_json: str) -> None:
    assert codec.knows(KETTLE)
    assert not Codec(tokenizer_json.replace("kettle.tea", "kettle.coffee")).knows(KETTLE)


def said(codec: Codec, *pairs: tuple[str, str]) -> list[int]:
    ids = [id for name, value in pairs for id in _change(codec, name, value)]
    return [*ids, codec.step]


def _change(codec: Codec, name: str, value: str) -> list[int]:
    name_ids, value_ids = codec.text(name, value)
    return [codec.marker_ids[CHANGE], *name_ids, codec.marker_ids[IS], *value_ids]


def test_changes_that_cannot_be_meant_are_bad_forecasts(codec: Codec) -> None:
    change, hot = codec.marker_ids[CHANGE], codec.text("note")[0]
    for name, ids in {
        "said twice": said(codec, ("note", "hot"), ("note", "cold")),
        "no value": [change, *hot, codec.step],
        "unknown field": said(codec, ("colour", "red")),
        "not a change at all": [*hot, codec.step],
    }.items():
        with pytest.raises(BadForecast):
            pytest.fail(f"{name}: {codec.read(KETTLE, ids)}")
    assert codec.read(KETTLE, said(codec, ("note", "hot")))[0] == KettleChanges(note="hot")


def test_a_value_outside_its_type_is_a_bad_forecast(codec: Codec) -> None:
    safety = catalog()["safety"]
    for value in ("many", "-4", "4000"):
        with pytest.raises(BadForecast):
            codec.read(safety, said(codec, ("gust_mph", value)))
    assert codec.read(safety, said(codec, ("gust_mph", "24")))[0].gust_mph == 24  # type: ignore[attr-defined]
