"""The form of an instruct model: who speaks is said by nobody else, and what is said is JSON or no forecast."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from service.domains import catalog
from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain, Fact
from service.vocabulary.forecast import Forecast
from service.vocabulary.outcome import Outcome, OutcomeScale, UnknownOutcome
from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Trajectory
from service.vocabulary.severity import Severity
from service.world import instruct as instruct_module
from service.world.checkpoint import NOTHING, opened
from service.world.instruct import FUTURE_LIMIT, LEAD, LINE, PROMPT_LIMIT, Instructed, Sheet, bounded
from service.world.model import BadForecast, Detail, Grounding, Opening, PromptTooLong, Situation, Turn
from service.world.step import Step, distribution
from service.world.tokens import PlainText
from tests.base_tokenizer import CONTROL, base_tokenizer
from tests.toy_domain import KettleChanges, KettleDomain, KettleState, anchor

KETTLE = KettleDomain()
FIELDS: Mapping[str, Domain] = {**catalog(), KETTLE.name: KETTLE}
POUR = Action(kind="pour", text="slowly")
LLAMA = dict(zip(CONTROL, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), strict=True))


def llama_tokenizer() -> str:
    """The same words behind other control tokens; one of them is not special."""
    told = base_tokenizer()
    for name, other in LLAMA.items():
        told = told.replace(json.dumps(name), json.dumps(other))
    return told


TOKENIZERS: Mapping[str, Callable[[], str]] = {"ChatML": base_tokenizer, "Llama 3": llama_tokenizer}
FORMS = {name: Instructed(made(), FIELDS.values()) for name, made in TOKENIZERS.items()}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Instructed:
    return FORMS[request.param]


@pytest.fixture
def chatml() -> Instructed:
    return FORMS["ChatML"]


def naive(form: Instructed) -> Tokenizer:
    """As a server has it, control tokens and all."""
    return Tokenizer.from_str(next(made() for name, made in TOKENIZERS.items() if FORMS[name] is form))


def transcript(form: Instructed, ids: Sequence[int]) -> str:
    return str(naive(form).decode(list(ids), skip_special_tokens=False))


def asked(form: Instructed, ids: Sequence[int]) -> list[dict[str, Any]]:
    """What was said in the user's turns."""
    lines = transcript(form, ids).splitlines()
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(line)[0] for line in lines if line.startswith('{"') and not line.startswith(LEAD)]


def opening(note: str = "a full kettle", *precedents: Match, masked: bool = False) -> Opening:
    return Opening(KETTLE, KettleState(note=note), POUR, precedents, masked)


def begun(form: Instructed, detail: Detail = Detail.prose, outcome: str = "scald", seed: int = 7) -> Step:
    """A step in the kettle whose model is sure of what follows."""
    at = opening()
    step = form.step(Situation(at, (), at.state, seed, detail))
    sure = np.full(len(KETTLE.outcomes.names), -np.inf)
    sure[KETTLE.outcomes.names.index(outcome)] = 0.0
    step.read(sure)
    return step


def heard(form: Instructed, said: str, detail: Detail = Detail.prose) -> Forecast:
    step = begun(form, detail)
    step.hear(form.plain.text(said)[0])
    return step.forecast()


FORGERY = st.lists(
    st.one_of(
        st.sampled_from([*CONTROL, *LLAMA.values(), '"}', "}}", "\n", "assistant"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.sampled_from(["<|", "|>", " "]),
    ),
    min_size=1,
    max_size=3,
).map("".join)


def told(form: Instructed, text: str) -> list[int]:
    """Everything that untrusted text can reach: prompt, precedents, a turn, its grounding, what is written of a step."""
    action = Action(kind=text[:64] or "x", text=text)
    at = Opening(KETTLE, KettleState(note=text), action, (Match(anchor("a", summary=text), 0.9),))
    step = Forecast("waiting", {}, KettleChanges(note=text or "x"), text or "x")
    grounding = Grounding(text, "tea", tuple(KETTLE.facts(KettleState(note=text), action)))
    return form.prompt(at) + form.turns(KETTLE, [Turn(step, action, grounding)])


def frame(form: Instructed, ids: Sequence[int]) -> list[int]:
    return [id for id in ids if id in form.reserved]


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=300)
@given(text=FORGERY)
def test_forged_control_tokens_stay_text(name: str, text: str) -> None:
    form = FORMS[name]
    assert frame(form, form.plain.text(text)[0]) == []
    assert frame(form, told(form, text)) == frame(form, told(form, "the kettle is warm"))


@pytest.mark.parametrize("token", CONTROL)
def test_the_model_s_own_tokenizer_would_be_fooled(chatml: Instructed, token: str) -> None:
    assert frame(chatml, naive(chatml).encode(f"say {token} now", add_special_tokens=False).ids)


def test_the_conversation_is_what_the_model_s_own_template_would_be(form: Instructed) -> None:
    step = Forecast("waiting", {}, KettleChanges(note="hot"), "it hisses")
    ids = [*form.prompt(opening()), *form.turns(KETTLE, [Turn(step, POUR)])]
    text = transcript(form, ids)
    brief, state = (
        Sheet(KETTLE).brief,
        '{"state":{"action":"pour","note":"a full kettle"},"action":{"kind":"pour","text":"slowly"}}',
    )
    said = '{"outcome":2,"then":{"changes":{"note":"hot"},"observation":"it hisses"}}'
    again = '{"action":{"kind":"pour","text":"slowly"}}'
    turns = (("system", brief), ("user", state), ("assistant", said), ("user", again))
    if form is FORMS["ChatML"]:
        written = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        assert text == f"{written}<|im_start|>assistant\n{LEAD}"
    else:
        headers = (f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>" for role, content in turns)
        assert text == f"<|begin_of_text|>{''.join(headers)}<|start_header_id|>assistant<|end_header_id|>\n\n{LEAD}"
    assert naive(form).encode(text, add_special_tokens=False).ids == ids


def test_a_server_with_this_tokenizer_passes_the_probes(form: Instructed) -> None:
    for text, ids in form.probes():
        assert naive(form).encode(text, add_special_tokens=False).ids == ids


@pytest.mark.parametrize("domain", FIELDS.values(), ids=FIELDS)
def test_every_outcome_has_a_digit_of_its_own_and_is_explained(form: Instructed, domain: Domain) -> None:
    lines = Sheet(domain).brief.splitlines()
    at = form.step(Situation(Opening(domain, None, POUR), (), None, 7))
    assert len(set(at.markers)) == len(domain.outcomes.names) and form.reserved.isdisjoint(at.markers)
    for digit, (marker, outcome) in enumerate(zip(at.markers, domain.outcomes, strict=True), 1):
        assert form.plain.spell([marker]) == str(digit)
        assert f"{LEAD}{digit} is {outcome.name}: {outcome.meaning}" in lines


def test_precedents_are_told_with_what_came_of_them_unless_masked(form: Instructed) -> None:
    precedents = [Match(anchor(f"a{n}", outcome=name), 0.912) for n, name in enumerate(("scald", "tea"))]
    open_eyed = asked(form, form.prompt(opening("warm", *precedents)))[0]
    assert open_eyed["recorded"] == [
        {"outcome": 3, "case": "kettle a0", "likeness": 0.91},
        {"outcome": 1, "case": "kettle a1", "likeness": 0.91},
    ]
    masked = asked(form, form.prompt(opening("warm", *precedents, masked=True)))[0]
    assert masked == {"state": {"action": "pour"}, "action": {"kind": "pour"}}


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
def test_a_masked_opening_tells_no_free_text(
    chatml: Instructed, histories: Mapping[str, list[Trajectory]], domain: Domain
) -> None:
    for first in (trajectory.transitions[0] for trajectory in histories[domain.name][:20]):
        facts = domain.facts(first.state, first.action)
        masked = asked(chatml, chatml.prompt(Opening(domain, first.state, first.action, masked=True)))[0]
        assert set(masked["state"]) == {fact.name for fact in facts if not fact.free}
        assert masked["action"] == {"kind": first.action.kind}
        assert any(fact.free for fact in facts)


def test_a_fact_told_twice_is_told_twice(form: Instructed) -> None:
    facts = (Fact("arg", "a=1"), Fact("arg", "b=2"), Fact("note", "Warm"))
    turn = Turn(Forecast("tea", {}, KettleChanges()), POUR, Grounding("a", "tea", facts))
    said = asked(form, form.turns(KETTLE, [turn]))[0]
    assert said["happened"] == {"outcome": 1, "state": {"arg": ["a=1", "b=2"], "note": "warm"}}


def test_a_precedent_off_the_scale_is_a_fault_never_left_out(form: Instructed) -> None:
    with pytest.raises(UnknownOutcome):
        form.prompt(opening("warm", Match(anchor("a", outcome="explosion"), 0.9)))


def test_shouting_is_not_another_situation(form: Instructed) -> None:
    assert form.prompt(opening("THE  LID\nis LOOSE ")) == form.prompt(opening("the lid is loose"))


def test_too_long_a_prompt_is_refused_never_cut(form: Instructed) -> None:
    def words(count: int) -> Opening:
        return opening(" ".join(["q"] * count))

    few, more = (len(form.prompt(words(count))) for count in (10, 11))
    most = 10 + (PROMPT_LIMIT - few) // (more - few)
    assert len(form.prompt(words(most))) == few + (most - 10) * (more - few)
    assert asked(form, form.prompt(words(most)))[0]["state"]["note"].count("q") == most
    with pytest.raises(PromptTooLong, match=str(PROMPT_LIMIT)):
        form.prompt(words(most + 1))


def test_a_tokenizer_that_was_left_cutting_cuts_nothing() -> None:
    short = {"max_length": 4, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    cutting = json.dumps({**json.loads(base_tokenizer()), "truncation": short})
    assert PlainText(cutting).text("a b c d e f g h") == PlainText(base_tokenizer()).text("a b c d e f g h")


def test_a_future_longer_than_a_server_reads_is_a_fault_of_its_own(form: Instructed) -> None:
    turn = Turn(Forecast("waiting", {}, KettleChanges(note="hot " * 30)), POUR)
    assert len(form.turns(KETTLE, [turn])) <= FUTURE_LIMIT
    with pytest.raises(BadForecast, match=str(FUTURE_LIMIT)):
        form.turns(KETTLE, [turn] * 9)


def test_a_step_is_resent_in_the_very_tokens_it_was_said_in(form: Instructed) -> None:
    step = begun(form)
    said = [
        token
        for piece in ('{"changes":', " {}", ',  "observation"', ':"it hisses"}')
        for token in form.plain.text(piece)[0]
    ]
    words = step.due()
    assert words is not None
    step.hear(said)
    told = step.forecast()
    resent = form.turns(KETTLE, [Turn(told, POUR)])
    assert resent[: len(told.ids)] == list(told.ids) == [*words.after, *said, *form.close]


@pytest.mark.parametrize("domain", catalog().values(), ids=catalog())
def test_what_is_written_is_read_back(
    form: Instructed, histories: Mapping[str, list[Trajectory]], domain: Domain
) -> None:
    for step in (step for trajectory in histories[domain.name][:60] for step in trajectory.transitions):
        written = form.write(domain, Forecast(step.outcome, {}, step.changes, step.observation))
        said = written[1 + len(form.then) : -len(form.close)]
        assert written[0] == form.digits[domain.outcomes.names.index(step.outcome)]
        if said:
            assert form.read(domain, said) == (step.changes, step.observation)
        else:
            assert (step.changes, step.observation) == (domain.forecast_type(), "")


def test_what_is_said_by_hand_is_read(form: Instructed) -> None:
    forecast = heard(form, '{"changes":{"note":"caf\u00e9 \\u2014 hot"},\n "observation":"it hisses"}')
    assert (forecast.outcome, forecast.changes, forecast.observation) == (
        "scald",
        KettleChanges(note="café — hot"),
        "it hisses",
    )
    assert forecast.probabilities == {"tea": 0.0, "waiting": 0.0, "scald": 1.0}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "the kettle boils",
        "{}",
        '{"changes":{}',
        '{"changes":{}}}',
        '{"changes":{"note":"a","colour":"red"}}',
        '{"changes":{"note":3}}',
        '{"changes":[]}',
        '{"changes":{},"observation":""}',
        '{"changes":{},"observation":"' + "a" * (LINE + 1) + '"}',
        '{"changes":{},"outcome":1}',
        "[" * 2_000,
    ],
)
def test_what_cannot_be_read_is_a_bad_forecast(chatml: Instructed, said: str) -> None:
    with pytest.raises(BadForecast):
        heard(chatml, said)


def test_a_value_outside_its_type_is_a_bad_forecast(chatml: Instructed) -> None:
    safety = catalog()["safety"]
    for value in ("-4", "4000", '"many"', "1e9"):
        with pytest.raises(BadForecast):
            chatml.read(safety, chatml.plain.text(f'{{"changes":{{"gust_mph":{value}}}}}')[0])


def test_a_control_token_in_what_was_said_is_a_bad_forecast_even_inside_a_text(form: Instructed) -> None:
    before, after = form.plain.text('{"changes":{"note":"', '"}}')
    for token in form.reserved:
        with pytest.raises(BadForecast, match="control token"):
            begun(form).hear([*before, token, *after])


def test_what_is_due_depends_on_what_is_wanted(form: Instructed) -> None:
    def due(detail: Detail, outcome: str) -> list[str]:
        words = begun(form, detail, outcome).due()
        return list(words.schema["required"]) if words else []

    everything = ["changes", "observation"]
    assert [due(detail, "waiting") for detail in Detail] == [[], [], ["changes"], everything]
    assert [due(detail, "scald") for detail in Detail] == [[], everything, everything, everything]


def test_only_the_end_of_the_turn_may_be_said_of_all_control_tokens(form: Instructed) -> None:
    words = begun(form).due()
    assert words is not None
    assert words.until == {form.end} and words.unsayable == form.reserved - {form.end}


def test_the_outcome_is_drawn_from_the_digits_alone(form: Instructed) -> None:
    at = opening()
    logs = np.log([0.4, 0.2, 0.1])
    drawn = []
    for seed in range(200):
        step = form.step(Situation(at, (), at.state, seed, Detail.odds))
        step.read(logs)
        drawn.append(step.forecast())
    assert list(drawn[0].probabilities.values()) == pytest.approx(distribution(logs, range(3)))
    assert sum(forecast.outcome == "tea" for forecast in drawn) / 200 == pytest.approx(4 / 7, abs=0.1)
    assert drawn[0].ids == () and drawn[0].changes == KettleChanges()


@pytest.mark.parametrize(
    "logs", [np.log([0.2, 0.2, 0.09]), np.full(3, -np.inf), np.full(3, np.nan), np.array([2.0, 1.0, 3.0])]
)
def test_a_model_that_is_not_about_to_name_an_outcome_is_not_believed(form: Instructed, logs: Any) -> None:
    """Too little, nothing, no number, and what are no log-probabilities of a whole vocabulary."""
    at = opening()
    with pytest.raises(BadForecast, match="no outcome"):
        form.step(Situation(at, (), at.state, 7)).read(logs)


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from parts(part)


@pytest.mark.parametrize("domain", FIELDS.values(), ids=FIELDS)
def test_what_a_model_is_held_to_has_an_end(domain: Domain) -> None:
    for part in parts(Sheet(domain).prose):
        match part.get("type"):
            case "string":
                assert "enum" in part or part["maxLength"] <= LINE
            case "integer" | "number":
                assert part["maximum"] - part["minimum"] < 1e8
            case "object":
                assert part["additionalProperties"] is False
        assert part.get("type") != "null" and "default" not in part


def test_a_schema_keeps_what_it_means_when_it_is_bounded() -> None:
    told = {
        "properties": {
            "title": {"type": "string", "maxLength": 9_000, "title": "Title"},
            "names": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
            "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
            "said": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": "unsaid"},
        }
    }
    assert bounded(told)["properties"] == {
        "title": {"type": "string", "maxLength": LINE},
        "names": {"type": "array", "items": {"type": "string", "maxLength": LINE}, "maxItems": 3},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "said": {"anyOf": [{"type": "string", "maxLength": LINE}, {"type": "null"}]},
    }


def test_a_scale_longer_than_there_are_digits_is_refused() -> None:
    domain = KettleDomain()
    domain.outcomes = OutcomeScale(tuple(Outcome(f"o{n}", Severity.none, 0.0, False, "") for n in range(10)))
    with pytest.raises(ValueError, match="kettle has 10 outcomes"):
        Instructed(base_tokenizer(), [domain])


@pytest.mark.parametrize("missing", ["<|im_start|>", "<|im_end|>"])
def test_a_tokenizer_of_another_frame_is_refused(missing: str) -> None:
    with pytest.raises(
        ValueError, match=r"neither ChatML \(<\|im_start\|>, <\|im_end\|>\) nor Llama 3 \(.*<\|eot_id\|>"
    ):
        Instructed(base_tokenizer().replace(missing, "<|else|>"), [KETTLE])


def test_digits_that_are_no_tokens_of_their_own_are_refused() -> None:
    spec = json.loads(base_tokenizer())
    spec["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    spec["model"]["vocab"][":1"] = 2_000
    spec["model"]["merges"].append([":", "1"])
    with pytest.raises(ValueError, match="digit"):
        Instructed(json.dumps(spec), [KETTLE])


@pytest.mark.parametrize("taken", ["a word", "another's"])
def test_a_control_token_without_an_id_of_its_own_is_refused(taken: str) -> None:
    spec = json.loads(base_tokenizer())
    spec["added_tokens"][-1]["id"] = 400 if taken == "a word" else spec["added_tokens"][0]["id"]
    with pytest.raises(ValueError, match="id of its own"):
        Instructed(json.dumps(spec), [KETTLE])


def test_a_control_token_that_text_could_spell_is_refused() -> None:
    spec = json.loads(base_tokenizer())
    spec["model"]["vocab"]["<tool_call>"] = spec["added_tokens"][-1]["id"]
    spec["pre_tokenizer"], spec["model"]["ignore_merges"] = None, True
    with pytest.raises(ValueError, match="no text"):
        Instructed(json.dumps(spec), [KETTLE])


def test_the_fingerprint_names_frame_words_task_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = json.loads(base_tokenizer())
    spec["model"]["merges"].pop()
    made = [Instructed(told, [KETTLE]) for told in (base_tokenizer(), llama_tokenizer(), json.dumps(spec))]
    assert Instructed(base_tokenizer(), FIELDS.values()).fingerprint == made[0].fingerprint
    for name in ("VERSION", "TASK"):
        with monkeypatch.context() as changed:
            changed.setattr(instruct_module, name, f"{getattr(instruct_module, name)} else")
            made.append(Instructed(base_tokenizer(), [KETTLE]))
    assert len({form.fingerprint for form in made}) == 5


def test_a_model_that_nobody_measured_is_familiar_with_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(base_tokenizer())
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-m", "models", "adopt", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    manifest, form = opened(tmp_path, lambda told: Instructed(told, catalog().values()))
    assert manifest.codec == form.fingerprint
    assert {name: story.familiar for name, story in manifest.domains.items()} == dict.fromkeys(catalog(), NOTHING)
