"""What the figures of risk are worth: planted truths come back, promises hold, and a report cannot hide a refusal."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the train extra is not installed")

from models.validation import backtest, estimator, fairness
from models.validation.backtest import Scored, auroc, cost, ece
from models.validation.calibration import conformal_threshold, fitted, spread
from models.validation.figure import averaged, figure, mean
from models.validation.judgement import refusals
from models.validation.rig import rig
from models.validation.settling import measure as settle
from models.validation.trials import Drawn, Trial, draw_trials
from service.domains import catalog
from service.domains import fairness as people
from service.verdicts.assess import Lens
from service.verdicts.calibrate import calibration
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.rollout import Ending, Imagined, Rollout, Transition
from service.vocabulary.severity import Severity
from tests.toy_domain import SCALE, KettleChanges, KettleState

LENS = Lens(SCALE, Severity.serious)
IDENTITY = ((0.0, 0.0), (1.0, 1.0))


# figures


def test_an_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    found = [mean(rng.random(60) < 0.3, seed=number) for number in range(300)]
    assert 0.9 < np.mean([each.low <= 0.3 <= each.high for each in found]) <= 0.99


def test_steps_that_are_alike_count_as_one() -> None:
    values = np.repeat(np.random.default_rng(2).random(20), 10)
    alone, grouped = mean(values), mean(values, np.repeat(np.arange(20), 10).tolist())
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    again = figure(lambda i: float(values[i].mean()), np.repeat(np.arange(20), 10).tolist())
    assert again.value == pytest.approx(grouped.value)
    assert again.high - again.low == pytest.approx(grouped.high - grouped.low, rel=0.3)


def test_a_mean_of_domains_is_surer_than_any_of_them() -> None:
    one = {"value": 0.9, "low": 0.84, "high": 0.96, "n": 50}
    told = averaged([one, one | {"value": 0.6, "low": 0.54, "high": 0.66}])
    assert told["value"] == pytest.approx(0.75)
    assert told["n"] == 100
    assert 0.75 - told["low"] == pytest.approx(0.06 / 2**0.5, abs=1e-3)


# ranking and calibration


def scored(risk: Any, exact: Any, seed: int = 0) -> Scored:
    truth = np.asarray(exact, float)
    happened = np.random.default_rng(seed).random(len(truth)) < truth
    return Scored(np.asarray(risk, float), np.asarray(risk, float), truth, happened)


def test_a_perfect_simulator_scores_one_on_what_was_owed_and_the_ceiling_on_what_followed() -> None:
    exact = np.random.default_rng(3).beta(0.6, 1.4, 400)
    told = backtest.told(scored(exact, exact), catalog()["helpdesk"].policy)
    assert told["auroc"]["value"] == 1.0
    assert told["auroc_followed"]["value"] == told["auroc_followed_ceiling"]["value"] < 0.95
    assert told["ece_after"]["value"] < 1e-9 < told["ece_after_followed"]["value"]


def test_a_planted_bias_is_found_and_the_map_takes_it_away() -> None:
    rng = np.random.default_rng(4)
    exact = rng.beta(0.6, 1.4, 1_000)
    raw = exact**2
    points = fitted(raw[:500], exact[:500])
    mapped = np.array(list(map(calibration(points), raw[500:])))
    assert ece(raw[500:], exact[500:]) > 0.1
    assert ece(mapped, exact[500:]) < 0.02


def test_a_map_of_too_few_cases_changes_nothing() -> None:
    assert fitted(np.array([0.2, 0.4]), np.array([1.0, 0.0])) == IDENTITY


def test_every_fitted_map_is_one_that_serving_accepts() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        raw = np.round(rng.random(60), rng.integers(1, 4))
        calibration(fitted(raw, (rng.random(60) < raw).astype(float)))


def test_an_auroc_needs_both_kinds() -> None:
    assert np.isnan(auroc(np.array([True, True]), np.array([0.1, 0.2])))
    assert auroc(np.array([False, True]), np.array([0.1, 0.2])) == 1.0


def test_a_cost_is_of_reviews_and_of_harm_let_through() -> None:
    told = scored([0.1, 0.9], [0.2, 0.8])
    assert cost(told, 0.5, harm=10) == pytest.approx((1 + 10 * 0.2) / 2)
    assert cost(told, 1.0, harm=10) == pytest.approx(10 * 0.5)


# promises


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_promise_on_missed_adverse_outcomes_holds_on_average(alpha: float) -> None:
    rng = np.random.default_rng(5)
    missed = []
    for _ in range(400):
        threshold = conformal_threshold(rng.beta(2, 2, 40), alpha)
        assert threshold is not None
        missed.append(np.mean(rng.beta(2, 2, 400) <= threshold))
    assert np.mean(missed) <= alpha + 0.005
    assert np.mean(missed) > alpha / 3, "and it is not kept by reviewing everything"


def test_a_promise_that_so_few_cases_cannot_carry_is_not_given() -> None:
    assert conformal_threshold(np.full(18, 0.5), 0.05) is None
    assert conformal_threshold(np.full(19, 0.5), 0.05) is not None


def test_nine_of_ten_true_risks_lie_within_the_spread_and_it_is_as_wide_as_the_error() -> None:
    rng = np.random.default_rng(6)
    exact = rng.beta(1, 3, 1_200)
    widths = []
    for off in (0.02, 0.15):
        foretold = np.clip(exact + rng.normal(0, off, 1_200), 0, 1)
        lens = Lens(SCALE, Severity.serious, spread=spread(foretold[:600], exact[:600]))
        bounds = np.array([lens.own(risk) for risk in foretold[600:]])
        held = (bounds[:, 0] <= exact[600:]) & (exact[600:] <= bounds[:, 1])
        assert 0.85 < held.mean() <= 0.98
        widths.append(np.mean(bounds[:, 1] - bounds[:, 0]))
    assert widths[1] > 2 * widths[0]


def test_a_spread_never_turns_round_and_always_holds_the_risk_itself() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        risks = np.round(rng.random(80), 2)
        lens = Lens(SCALE, Severity.serious, spread=spread(risks, rng.random(80)))
        bounds = np.array([lens.own(risk) for risk in np.linspace(0, 1, 101)])
        assert (np.diff(bounds[:, 0]) >= -1e-9).all() and (np.diff(bounds[:, 1]) >= -1e-9).all()
        assert all(low <= risk <= high for risk, (low, high) in zip(np.linspace(0, 1, 101), bounds, strict=True))
    assert spread(np.linspace(0, 1, 10), np.linspace(0, 1, 10)) == ()


# futures


def trial(hazards: list[list[float]], exact: float, chance: Random) -> Trial:
    """A proposal whose futures have these hazards by step, drawn as they say."""
    proposal = Proposal(domain="kettle", state=KettleState(), action=Action(kind="pour"))
    rollouts = tuple(_lived(row, chance) for row in hazards)
    return Trial(Drawn(0, proposal, exact, False), rollouts, LENS)


def _lived(hazards: list[float], chance: Random) -> Rollout:
    steps = []
    for hazard in hazards:
        name = "scald" if chance.random() < hazard else "waiting"
        made = Transition(KettleState(), Action(kind="pour"), name, KettleChanges(), "", KettleState(), 0.0)
        steps.append(Imagined(made, {"scald": hazard, "waiting": 1 - hazard}))
        if name == "scald":
            return Rollout(0, tuple(steps), Ending.terminal)
    return Rollout(0, tuple(steps), Ending.horizon)


def test_five_futures_by_their_hazards_are_nearer_the_truth_than_forty_counted() -> None:
    chance = Random(7)
    trials = [trial([[risk]] * 80, risk, chance) for risk in (0.1, 0.3, 0.5, 0.7) for _ in range(10)]
    told = estimator.measure(trials)
    assert told["hazard_5"]["value"] < 1e-9
    assert told["counting_80"]["value"] > 0.02
    assert told["counting_5"]["value"] > told["counting_20"]["value"] > told["counting_80"]["value"]
    assert told["gap"]["low"] > 0


def test_drawn_proposals_are_the_same_for_ever_and_their_sequel_follows_their_risk() -> None:
    drawn = draw_trials(catalog()["safety"], "test", 60)
    assert drawn == draw_trials(catalog()["safety"], "test", 60)
    rates = [
        np.mean([each.happened for each in drawn if low <= each.exact < high]) for low, high in ((0, 0.2), (0.4, 1.01))
    ]
    assert rates[0] < 0.3 < rates[1]


# fairness


@pytest.mark.parametrize("name", list(catalog()))
def test_every_domain_says_whom_its_errors_would_fall_on_and_tells_the_case_of_others(name: str) -> None:
    drawn = draw_trials(catalog()[name], "test", 3)
    for each in drawn:
        groups = people(name).groups(each.proposal.state)
        assert groups and all(groups.values())
        twins = people(name).twins(each.proposal.state)
        assert len(twins) >= 3
        assert all(type(twin) is type(each.proposal.state) for twin in twins.values())


def test_a_group_whose_dangers_are_underrated_is_named() -> None:
    domain = catalog()["triage"]
    drawn = draw_trials(domain, "test", 120)
    trials = [Trial(each, (), LENS) for each in drawn]
    exact = np.array([each.exact for each in drawn])
    women = np.array([people("triage").groups(each.proposal.state)["sex"] == "women" for each in drawn])
    told = fairness.by_group(domain, trials, scored(np.clip(exact - 0.3 * women, 0, 1), exact))
    assert told["worst_group"] in ("sex: women", "sex: men")
    assert told["sex"]["women"]["bias"]["value"] < -0.02 < 0.02 < told["sex"]["men"]["bias"]["value"]
    fair = fairness.by_group(domain, trials, scored(exact, exact))
    assert fair["disparity"] == pytest.approx(0.0)


# the gate


def report(**changed: Any) -> dict[str, Any]:
    fine: dict[str, Any] = {
        "fidelity": {"overall": {"value": 0.93}, "cases": {"value": 0.90}},
        "verdict_flips_from_settling": 0,
        "fairness": {"worst_group": "age: 75 and over", "disparity": 0.04},
    }
    return {"domains": {"kettle": fine | changed}}


def test_a_checkpoint_is_refused_for_each_thing_that_it_must_not_do() -> None:
    assert refusals(report()) == []
    beaten = report(fidelity={"overall": {"value": 0.90}, "cases": {"value": 0.90}})
    flips, unfair = (
        report(verdict_flips_from_settling=1),
        report(fairness={"worst_group": "sex: women", "disparity": 0.11}),
    )
    for bad, word in ((beaten, "recorded cases"), (flips, "flips"), (unfair, "sex: women")):
        assert [word in reason for reason in refusals(bad)] == [True]


@pytest.mark.usefixtures("encoder")
async def test_settling_flips_no_verdict_of_the_bundled_checkpoint(tmp_path: Path) -> None:
    root, domain = Path(__file__).parents[2], catalog()["safety"]
    (tmp_path / "cache").symlink_to(root / "build" / "cache")
    async with rig(root / "models" / "checkpoints" / "mini", tmp_path) as fresh:
        told = await settle(fresh, domain, draw_trials(domain, "test", 8))
    assert (told["n"], told["verdict_flips"]) == (8, 0)
    assert 0 <= told["saved"] < 1
