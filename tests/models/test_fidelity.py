"""What the fidelity figures are worth: planted truths come back."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from models.validation import fidelity
from models.validation.figure import Figure
from models.validation.pages import plots
from models.validation.rig import prepare
from models.validation.steps import scores
from models.validation.steps.baselines import PRIOR, Frequencies
from models.validation.steps.compared import CASES, CEILING, CHECKPOINT, FREQUENCIES, Compared, above, figure_of, skill
from models.validation.steps.earlier import EarlierBank
from models.validation.steps.foreseen import LEAST_STEPS, Foreseen, worst
from models.validation.steps.foresight import Said, foresee, steps, true_past
from models.validation.steps.headline import Measured, headline, of_domain, worst_of
from models.validation.steps.likeness import of_truths, partners, similarity
from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from service.domains import catalog
from service.vocabulary.proposal import Action
from service.vocabulary.rollout import Trajectory, Transition
from service.world.cases import CasesWorldModel
from service.world.checkpoint import Checkpoint
from service.world.model import BadForecast, Detail, Opening, Situation, WorldModel
from service.world.scripted import Line, ScriptedWorldModel
from tests.toy_domain import SCALE, KettleChanges, KettleDomain, KettleState, anchor

KETTLE = KettleDomain()
EVEN = dict.fromkeys(SCALE.names, 1 / 3)
ODDS = {"tea": 0.1, "waiting": 0.7, "scald": 0.2}
POUR = Opening(KETTLE, KettleState(), Action(kind="pour"))
MAY = datetime(2026, 5, 1, tzinfo=UTC)


def _boiled(number: int, ending: str = "tea", category: str = "kitchen", known: bool = False) -> Trajectory:
    """The kettle warms for one turn; then there is tea, or a scald."""
    state, pour, wait = KettleState(category=category), Action(kind="pour"), Action(kind="wait")
    odds = ODDS if known else None
    steps = (
        Transition(state, pour, "waiting", KettleChanges(note="it sings"), "It sings.", state, 0.1, odds),
        Transition(state, wait, ending, KettleChanges(), f"It is over: {ending}.", state, 0.0),
    )
    return Trajectory(f"kettle-{number}", "kettle", "kitchen log", MAY, steps)


async def _foreseen(world: WorldModel, trajectories: Sequence[Trajectory]) -> Foreseen:
    said: list[Said] = []
    for each in trajectories:
        said += await foresee(world, POUR, each, Detail.prose)
    return Foreseen(KETTLE, [step for each in trajectories for step in steps(KETTLE, each)], said)


def _knows() -> ScriptedWorldModel:
    return ScriptedWorldModel(
        [Line("waiting", changes={"note": "it sings"}, observation="It sings."), Line("tea", observation="Tea.")]
    )


def _guesses() -> ScriptedWorldModel:
    return ScriptedWorldModel([Line("waiting", EVEN), Line("scald", EVEN)])


# scores


def test_missing_by_one_rung_costs_less_than_missing_by_the_whole_ladder() -> None:
    odds = np.array([[1.0, 0.0, 0.0]] * 3)
    assert scores.ranked(odds, np.array([0, 1, 2])).tolist() == [0.0, 0.5, 1.0]
    assert scores.briers(odds, np.array([0, 1, 2])).tolist() == [0.0, 2.0, 2.0]
    assert scores.top_hits(odds, np.array([0, 1, 2])).tolist() == [1.0, 0.0, 0.0]


def test_the_true_odds_score_best_on_average() -> None:
    rng = np.random.default_rng(7)
    truth = np.array([0.6, 0.3, 0.1])
    drawn = rng.choice(3, 4_000, p=truth)
    for score in (scores.log_losses, scores.briers, scores.ranked):
        honest, bold, blank = (
            score(np.tile(odds, (4_000, 1)), drawn).mean() for odds in (truth, [0.9, 0.08, 0.02], [1 / 3] * 3)
        )
        assert honest < min(bold, blank)


def test_an_event_held_impossible_costs_much_but_not_everything() -> None:
    lost = scores.log_losses(np.array([[1.0, 0.0]]), np.array([1]))
    assert lost.tolist() == pytest.approx([-np.log(scores.LEAST)])


def test_two_models_that_say_nothing_when_nothing_changed_are_right() -> None:
    assert (scores.overlap([], []), scores.overlap(["a"], ["a", "b"]), scores.overlap(["a"], [])) == (1.0, 0.5, 0.0)


# what is asked, and how it is counted


async def test_a_model_that_knows_the_truth_is_faithful_in_all_that_is_counted() -> None:
    knows = await _foreseen(_knows(), [_boiled(number) for number in range(20)])
    told = knows.of_odds() | knows.of_changes()
    for name in ("overall", "outcome_match", "changed_fields", "changed_values"):
        assert told[name] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 40}, name
    assert {told[name]["value"] for name in ("rps", "brier", "log_loss")} == {0.0}
    assert {name: each["n"] for name, each in told["by_turn"].items()} == {"1": 20, "2": 20}
    assert told["silent"] == told["unread"] == 0.0


async def test_a_model_that_guesses_is_less_faithful_and_half_its_unsaid_changes_are_wrong() -> None:
    guesses = await _foreseen(_guesses(), [_boiled(number) for number in range(20)])
    assert guesses.of_odds()["overall"]["value"] < 0.9
    assert guesses.of_changes()["changed_fields"]["value"] == pytest.approx(0.5)


async def test_what_is_written_of_the_right_outcome_is_judged_apart() -> None:
    wrong = ScriptedWorldModel([Line("waiting", changes={"note": "it sings"}), Line("scald")])
    mixed = await _foreseen(wrong, [_boiled(number) for number in range(5)])
    assert [step.turn for step in mixed.right().steps] == [1] * 5
    assert mixed.right().of_changes()["changed_values"]["value"] == 1.0
    assert Foreseen(KETTLE, [], []).of_changes()["changed_fields"] is None


async def test_a_model_that_babbles_is_scored_as_if_it_knew_nothing() -> None:
    trajectories = [_boiled(number) for number in range(5)]
    babbles = await _foreseen(ScriptedWorldModel([BadForecast("no outcome")]), trajectories)
    guesses = await _foreseen(_guesses(), trajectories)
    assert babbles.fidelity.tolist() == guesses.fidelity.tolist()
    assert (babbles.of_odds()["silent"], babbles.of_changes()["unread"]) == (1.0, 1.0)
    assert babbles.of_changes()["changed_fields"]["value"] == 0.0


def test_the_past_is_told_as_serving_tells_it_and_never_the_step_foreseen() -> None:
    past = true_past(POUR, _boiled(0, "scald"))
    assert [turn.forecast.outcome for turn in past] == ["waiting"]
    assert (past[0].forecast.observation, past[0].action.kind) == ("", "wait")


def test_a_category_too_small_to_judge_is_never_the_worst() -> None:
    by = {
        "tiny": Figure(0.1, 0.0, 0.2, LEAST_STEPS - 1),
        "poor": Figure(0.7, 0.6, 0.8, LEAST_STEPS),
        "good": Figure(0.9, 0.8, 1.0, 500),
    }
    assert worst(by) == {"name": "poor", "value": 0.7, "low": 0.6, "high": 0.8, "n": LEAST_STEPS}
    assert worst({"tiny": by["tiny"]}) is None
    domains = {"a": {"worst_category": worst(by)}, "b": {"worst_category": None}}
    assert worst_of(domains) == {"domain": "a", "name": "poor", "value": 0.7, "low": 0.6, "high": 0.8, "n": LEAST_STEPS}


# what it stands beside


def test_frequencies_are_what_counting_gives() -> None:
    recorded = [_boiled(number, "scald" if number < 30 else "tea") for number in range(100)]
    first, second = (Frequencies(KETTLE, recorded).forecast(step) for step in steps(KETTLE, _boiled(0)))
    assert first.probabilities["waiting"] == pytest.approx(1.0, abs=0.01)
    assert second.probabilities["scald"] == pytest.approx(0.3, abs=0.01)
    assert (first.outcome, second.outcome) == ("waiting", "tea")
    assert sum(second.probabilities.values()) == pytest.approx(1.0)


def test_frequencies_of_a_category_never_recorded_are_those_of_the_turn() -> None:
    counted = Frequencies(KETTLE, [_boiled(number, "scald") for number in range(200)])
    foreign = counted.forecast(steps(KETTLE, _boiled(0, category="garage"))[1])
    assert foreign.probabilities["scald"] == pytest.approx(1.0, abs=PRIOR / 100)
    assert Frequencies(KETTLE, []).forecast(steps(KETTLE, _boiled(0))[0]).probabilities == pytest.approx(EVEN)


async def _compared(world: WorldModel, count: int, known: bool = False) -> Compared:
    recorded = [_boiled(number, "scald" if number % 2 else "tea") for number in range(100)]
    tested = [_boiled(number, known=known) for number in range(count)]
    counted = Frequencies(KETTLE, recorded)
    model = await _foreseen(world, tested)
    by_counting = Foreseen(KETTLE, model.steps, [counted.forecast(step) for step in model.steps])
    return Compared({CHECKPOINT: model, CASES: await _foreseen(_guesses(), tested), FREQUENCIES: by_counting})


async def test_skill_is_one_for_foresight_none_for_counting_and_negative_below_it() -> None:
    knows, guesses = await _compared(_knows(), 10), await _compared(_guesses(), 10)
    assert figure_of(skill(CHECKPOINT), [knows]).value == 1.0
    assert figure_of(skill(FREQUENCIES), [knows]).value == 0.0
    assert figure_of(skill(CHECKPOINT), [guesses]).high < 0
    assert figure_of(above(CASES), [guesses]).value == 0.0
    assert figure_of(above(CASES), [knows]).low > 0


async def test_every_domain_weighs_the_same_however_many_steps_it_has() -> None:
    knows, guesses = await _compared(_knows(), 90), await _compared(_guesses(), 10)
    found = headline([Measured(knows, {}), Measured(guesses, {})])["overall"]
    assert found["value"] == pytest.approx((1 + guesses.by[CHECKPOINT].fidelity.mean()) / 2, abs=1e-4)
    assert found["n"] == 200


async def test_the_ceiling_is_what_the_exact_odds_score_at_first_steps_that_tell_them() -> None:
    first = (await _compared(_knows(), 10, known=True)).first()
    assert [step.turn for step in first.by[CEILING].steps] == [1] * 10
    lost = (0.1**2 + 0.2**2) / 2
    assert first.by[CEILING].fidelity.tolist() == pytest.approx([1 - lost] * 10)
    found = headline([Measured(await _compared(_knows(), 10, known=True), {})])
    assert found["ceiling_first_step"]["value"] == pytest.approx(1 - lost)


async def test_without_exact_odds_there_is_no_ceiling() -> None:
    known, unknown = [Measured(await _compared(_knows(), 10, known=known), {}) for known in (True, False)]
    found = headline([known, unknown])
    assert (found["ceiling_first_step"], found["ceiling_skill_first_step"]) == (None, None)
    assert found["first_step"]["value"] == 1.0


# time


async def test_a_time_split_never_recalls_what_came_later_and_misses_nothing_that_came_before(
    tmp_path: Path, encoder: Encoder
) -> None:
    bank = EdgeAnchorBank(tmp_path, encoder)
    later = [anchor(f"late-{n}", when=MAY + timedelta(days=n), next_outcome="scald") for n in range(40)]
    before = [
        anchor(f"old-{n}", "a kettle. pour", when=MAY - timedelta(days=n), next_outcome="tea") for n in range(1, 4)
    ]
    await bank.add([*later, *before])
    key = KETTLE.anchor_key(KettleState(), Action(kind="pour"))
    earlier = EarlierBank(bank, MAY)
    assert {match.anchor.id for match in await bank.nearest("kettle", key, 3, 0.0, tenant="")} <= {
        each.id for each in later
    }
    for limit in (1, 3, 10):
        found = await earlier.nearest("kettle", key, limit, 0.0, tenant="")
        assert len(found) == min(limit, 3)
        assert {match.anchor.id for match in found} <= {each.id for each in before}
    foreseen = await CasesWorldModel(earlier).forecast(Situation(POUR, (), POUR.state, 1))
    assert foreseen.probabilities["tea"] > 0.8
    await bank.aclose()


def test_the_late_half_year_is_held_out_by_date() -> None:
    for domain in catalog().values():
        dates = [each.when for each, _ in zip(fidelity._drawn(domain, "test"), range(60), strict=False)]
        late = [when for when in dates if when >= fidelity.LATE]
        assert 0 < len(late) < 30, domain.name
        assert max(dates) < datetime(2026, 11, 2, tzinfo=UTC)


# likeness


def test_identical_texts_are_alike_others_less_and_silence_not_at_all(encoder: Encoder) -> None:
    same, near, far, silent = similarity(
        encoder,
        ["The user can log in again.", "The user can log in again.", "The user can log in again.", ""],
        ["The user can log in again.", "She is able to sign in now.", "A worker fell from the scaffold.", "Tea."],
    )
    assert same == pytest.approx(1.0, abs=1e-5)
    assert same > near > far > silent == 0.0


def test_partners_are_of_the_same_kind_and_of_another_trajectory() -> None:
    trajectories, kinds = ["a", "a", "b", "b", "c"], ["x", "y", "x", "y", "z"]
    assert partners(trajectories, kinds) == [2, 3, 0, 1, None]
    assert all(
        other is not None and trajectories[other] != own
        for own, other in zip(trajectories, partners(trajectories, [""] * 5), strict=True)
    )


async def test_true_observations_of_one_outcome_are_more_alike_than_any_two(encoder: Encoder) -> None:
    foreseen = await _foreseen(_knows(), [_boiled(n, "scald" if n % 2 else "tea") for n in range(20)])
    told = of_truths(encoder, foreseen)
    assert told["observation_similarity_same_outcome"]["value"] == pytest.approx(1.0, abs=1e-4)
    assert told["observation_similarity_random"]["value"] < 0.9


# pictures


def test_what_was_not_measured_is_left_out_of_a_picture() -> None:
    _, (axes,) = plots.canvas("Is it?", "turn", "fidelity")
    figure = {"value": 0.5, "low": 0.4, "high": 0.7, "n": 9}
    plots.intervals(axes, [0, 1, 2], [figure, None, figure], plots.CHECKPOINT)
    assert axes.lines[0].get_xdata().tolist() == [0, 2]


# the whole


async def test_one_domains_figures_stand_beside_those_of_the_baselines(encoder: Encoder) -> None:
    whole = await _compared(_knows(), 20, known=True)
    told = of_domain(Measured(whole, {"time": whole}), encoder)
    assert told["observation_similarity"]["value"] > told["baselines"]["cases"]["observation_similarity"]["value"]
    assert set(told["baselines"]) == {"cases", "frequencies", "ceiling"}
    assert told["splits"]["time"] == told["overall"]
    assert told["baselines"]["frequencies"]["splits"]["time"] == told["frequencies"]
    assert told["worst_category"] == {"name": "kitchen", **told["overall"]}


@pytest.mark.usefixtures("encoder")
async def test_every_domain_is_measured_and_the_result_is_json_and_can_be_drawn(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "cache").symlink_to(Path(__file__).parents[2] / "build" / "cache")
    await prepare(tmp_path, 2)
    told = await fidelity.measure(tiny_checkpoint.graph.parent, tmp_path, 2, history=5)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["fidelity"]) == {"overall", *catalog()}
    assert all(
        set(told["fidelity"][name]["splits"]) == {"time", "unseen_wording", "unseen_family"} for name in catalog()
    )
