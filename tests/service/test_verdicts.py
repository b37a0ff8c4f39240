"""Judgement is arithmetic on evidence: every number here can be checked with a pencil or by simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from service.verdicts.assess import Lens, assess, interval, life_table
from service.verdicts.calibrate import calibration
from service.verdicts.explain import factor_in_words
from service.verdicts.judge import Evidence, judge, with_recommendation
from service.verdicts.rule import Doubt, rule, straddles
from service.verdicts.settle import settled
from service.vocabulary.anchor import Match
from service.vocabulary.outcome import Outcome, OutcomeScale
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.rollout import Ending, Imagined, Rollout, Transition
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import (
    Assessment,
    Basis,
    Reason,
    Recommendation,
    RiskFactor,
    RiskPolicy,
    RuleHit,
    Ruling,
    Verdict,
)
from tests.toy_domain import KettleChanges, KettleDomain, KettleState, anchor

SCALE = OutcomeScale(
    (
        Outcome("tea", Severity.none, 1.0, True, "the tea is served"),
        Outcome("waiting", Severity.none, 0.1, False, "the water is not boiling yet"),
        Outcome("spill", Severity.serious, -0.5, True, "tea on the carpet"),
        Outcome("scald", Severity.critical, -1.0, True, "somebody is scalded"),
    )
)
LENS = Lens(SCALE, Severity.serious)
POLICY = RiskPolicy(
    threshold=0.3,
    critical_threshold=0.1,
    adverse_from=Severity.serious,
    rollouts=5,
    max_rollouts=10,
    horizon=5,
    anchor_interval=2,
    quorum=3,
    budget_ms=500,
    temperature=1.0,
)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
POUR, STATE = Action(kind="pour"), KettleState()
PROPOSAL = Proposal(domain="kettle", state=STATE, action=POUR)

Step = tuple[str, Mapping[str, float]]


class SpillingKettle(KettleDomain):
    outcomes = SCALE
    policy = POLICY

    def risk_factors(self, proposal: Proposal, adverse: Sequence[Rollout]) -> Sequence[RiskFactor]:
        return (
            RiskFactor("water", 98.0, "°C", 60.0, "EN 60335", True, len(adverse)),
            RiskFactor("fill", 0.5, "l", 1.7, "maker", False),
        )


def odds(spill: float = 0.0, scald: float = 0.0) -> dict[str, float]:
    return {"waiting": 1 - spill - scald, "spill": spill, "scald": scald}


def future(*steps: Step, ending: Ending = Ending.horizon, seen: str = "") -> Rollout:
    imagined = [
        Imagined(Transition(STATE, POUR, outcome, KettleChanges(), seen, STATE, SCALE[outcome].reward), probabilities)
        for outcome, probabilities in steps
    ]
    return Rollout(1, tuple(imagined), ending)


def quiet(hazard: float = 0.0, steps: int = 5, scald: float = 0.0, ending: Ending = Ending.horizon) -> Rollout:
    return future(*[("waiting", odds(hazard, scald))] * steps, ending=ending)


def spilt(hazard: float = 0.5, after: int = 0) -> Rollout:
    return future(*[("waiting", odds(hazard))] * after, ("spill", odds(hazard)), ending=Ending.terminal)


# the life table


@pytest.mark.parametrize("hazard", [0.0, 0.03, 0.2, 1.0])
def test_a_constant_hazard_is_recovered_exactly(hazard: float) -> None:
    assert life_table([quiet(hazard)] * 5, LENS).adverse == pytest.approx(1 - (1 - hazard) ** 5)


def test_risk_is_what_each_step_leaves_to_the_next() -> None:
    one = future(("waiting", odds(0.1)), ("waiting", odds(0.3)))
    other = future(("waiting", odds(0.3)), ("waiting", odds(0.5)))
    table = life_table([one, other], LENS)
    assert table.adverse == pytest.approx(1 - (1 - 0.2) * (1 - 0.4))
    assert table.outcomes["spill"] == pytest.approx(0.2 + 0.8 * 0.4)
    assert table.critical == 0.0


def test_the_odds_of_ending_well_are_weighed_and_not_whether_it_happened() -> None:
    """Half of what is open after the first step may be served its tea and be over, whichever future that befell."""
    half = odds(0.2) | {"waiting": 0.4, "tea": 0.4}
    ends = future(("tea", half), ending=Ending.terminal)
    goes = future(("waiting", half), ("waiting", odds(0.5)))
    for rollouts in ([ends, goes], [goes, goes], [goes, ends, ends]):
        assert life_table(rollouts, LENS).adverse == pytest.approx(0.2 + 0.4 * 0.5)


def test_what_was_cut_short_goes_on_as_hazards_usually_do() -> None:
    lens = replace(LENS, course=(1.0, 0.5, 0.5), horizon=3)
    long = future(("waiting", odds(0.2)), ("waiting", odds(0.4)), ("waiting", odds(0.4)))
    cut = future(("waiting", odds(0.2)), ending=Ending.deadline)
    second, third = (0.4 + 0.1 + 2 * 0.1) / 4, (0.4 + 0.1 + 2 * 0.175) / 4
    assert life_table([long, cut], lens).adverse == pytest.approx(1 - 0.8 * (1 - second) * (1 - third))
    assert life_table([cut], lens).adverse == pytest.approx(1 - 0.8 * (1 - 0.1) ** 2)


def test_where_no_future_is_left_open_the_table_goes_on_as_usual_and_no_further_than_was_asked() -> None:
    wrong = future(("spill", odds(0.2)), ending=Ending.terminal)
    for horizon in (1, 2, 3):
        lens = replace(LENS, horizon=horizon)
        assert life_table([wrong, wrong], lens).adverse == pytest.approx(1 - 0.8**horizon)
    assert life_table([wrong, wrong], replace(LENS, horizon=3), waiting=True).adverse == pytest.approx(1 - 0.8**2)


def test_the_parts_add_up_to_the_whole() -> None:
    chance = Random(4)
    for _ in range(300):
        rollouts = [_lived(chance, [chance.random() * 0.2] * 5, 0.3) for _ in range(5)]
        table = life_table(rollouts, LENS)
        assert sum(table.outcomes.values()) == pytest.approx(table.adverse)
        assert table.critical == pytest.approx(table.outcomes["scald"])
        assert 0 <= table.critical <= table.adverse <= 1


def test_the_life_table_is_right_where_the_mean_of_futures_is_too_low() -> None:
    """Half of all futures have a hidden cause; those with it drop out early and never show what else awaited them.

    With few futures the table is a little low as well, since all that have the cause may be gone: that vanishes with their number.
    """
    chance, causes, steps = Random(11), (0.5, 0.02), 5
    truth = sum(1 - (1 - hazard) ** steps for hazard in causes) / len(causes)
    errors: dict[int, tuple[float, float]] = {}
    for count, times in ((10, 500), (40, 120)):
        drawn = [[_lived(chance, [chance.choice(causes)] * steps) for _ in range(count)] for _ in range(times)]
        table = sum(life_table(rollouts, LENS).adverse for rollouts in drawn) / times
        mean = sum(_alone(rollout) for rollouts in drawn for rollout in rollouts) / (times * count)
        errors[count] = truth - table, truth - mean
    assert abs(errors[40][0]) < 0.015
    assert all(mean > 0.08 and mean > 3 * abs(table) for table, mean in errors.values())


def _alone(rollout: Rollout) -> float:
    """1 - prod(1 - h) of one future by itself: the form the life table replaces."""
    safe = 1.0
    for step in rollout.steps:
        safe *= 1 - LENS.hazard(step.probabilities)
    return 1 - safe


def _lived(chance: Random, hazards: Sequence[float], critical_share: float = 0.0) -> Rollout:
    """A future drawn from these hazards, as a world model that knows them would write it."""
    steps: list[Step] = []
    for hazard in hazards:
        told = odds(hazard * (1 - critical_share), hazard * critical_share)
        if chance.random() < hazard:
            outcome = "scald" if chance.random() < critical_share else "spill"
            return future(*steps, (outcome, told), ending=Ending.terminal)
        steps.append(("waiting", told))
    return future(*steps)


def test_no_futures_are_no_risk_and_no_certainty() -> None:
    empty = assess([], 5, LENS)
    assert (empty.adverse_probability, empty.interval) == (0.0, (0.0, 1.0))


# the interval


@pytest.mark.parametrize(
    ("probability", "samples", "low", "high"),
    [(0.5, 10, 0.2693, 0.7307), (0.0, 5, 0.0, 0.3512), (1.0, 5, 0.6488, 1.0), (0.1, 100, 0.0608, 0.1602)],
)
def test_the_interval_is_wilsons(probability: float, samples: float, low: float, high: float) -> None:
    assert interval(probability, samples) == pytest.approx((low, high), abs=5e-4)


def test_the_interval_covers_nine_of_ten() -> None:
    chance = Random(2)
    for truth in (0.1, 0.3, 0.6):
        seen = [sum(chance.random() < truth for _ in range(40)) / 40 for _ in range(4_000)]
        covered = sum(low <= truth <= high for low, high in (interval(p, 40) for p in seen)) / len(seen)
        assert 0.86 < covered < 0.96, "draws are whole numbers, so nine of ten cannot be met exactly"


def test_the_more_alike_futures_are_and_the_more_of_them_the_narrower() -> None:
    def width(rollouts: int, concentration: float) -> float:
        low, high = assess([quiet(0.05)] * rollouts, rollouts, replace(LENS, concentration=concentration)).interval
        return high - low

    assert width(5, 1) > width(5, 4) > width(5, 40)
    assert width(5, 4) > width(10, 4)


def test_the_models_own_error_is_read_off_beside_the_risk_and_holds_it() -> None:
    lens = replace(LENS, spread=((0.0, 0.0, 0.1), (0.2, 0.1, 0.5), (1.0, 0.8, 0.9)))
    assert lens.own(0.1) == pytest.approx((0.05, 0.3))
    assert lens.own(1.0) == pytest.approx((0.8, 1.0))
    assert LENS.own(0.1) is None
    assert assess([quiet(0.05)] * 5, 5, lens).interval == assess([quiet(0.05)] * 5, 5, LENS).interval


def test_a_future_without_a_step_says_nothing() -> None:
    silent = Rollout(1, (), Ending.fault, "unreadable")
    told = assess([quiet(0.1), quiet(0.1), silent], 3, LENS)
    assert told.interval == assess([quiet(0.1)] * 2, 2, LENS).interval
    assert (told.requested, told.completed, told.faults) == (3, 2, 1)


# calibration


def test_calibration_goes_through_its_points_and_straight_between() -> None:
    mapped = calibration(((0.0, 0.0), (0.2, 0.4), (1.0, 1.0)))
    assert [mapped(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.2, 0.4, 0.7, 1.0])


def test_calibration_never_turns_round() -> None:
    chance = Random(9)
    for _ in range(200):
        xs = sorted({0.0, 1.0, *(chance.random() for _ in range(5))})
        ys = [0.0, *sorted(chance.random() for _ in xs[2:]), 1.0]
        mapped = calibration(tuple(zip(xs, ys, strict=True)))
        values = [mapped(step / 50) for step in range(51)]
        assert values == sorted(values)
        assert 0 <= values[0] <= values[-1] <= 1


@pytest.mark.parametrize(
    "points",
    [(), ((0.0, 0.0),), ((0.0, 0.1), (1.0, 1.0)), ((0.0, 0.0), (0.5, 0.6), (0.4, 0.7), (1.0, 1.0)),
     ((0.0, 0.0), (0.5, 0.6), (0.7, 0.5), (1.0, 1.0)), ((0.0, 0.0), (0.5, 0.2), (0.5, 0.6), (1.0, 1.0))],
)  # fmt: skip
def test_a_map_that_does_not_rise_from_nothing_to_certainty_is_refused(points: Sequence[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="rises"):
        calibration(points)


def test_the_ruling_rests_on_the_calibrated_risk_and_the_raw_one_is_kept() -> None:
    doubled = replace(LENS, calibrate=calibration(((0.0, 0.0), (0.4, 0.8), (1.0, 1.0))))
    told = assess([quiet(0.05)] * 5, 5, doubled)
    assert told.adverse_probability == pytest.approx(2 * told.raw_adverse_probability)
    assert told.interval[0] < told.adverse_probability < told.interval[1]


# the rule


def judged(rollouts: Sequence[Rollout], doubt: Doubt = Doubt(), basis: Basis = Basis.simulated) -> Verdict:
    lens = replace(LENS, concentration=40.0)
    return rule(assess(rollouts, len(rollouts), lens), POLICY, basis, doubt)


def test_quiet_whole_futures_are_approved() -> None:
    verdict = judged([quiet(0.01)] * 5)
    assert (verdict.ruling, verdict.reason) == (Ruling.approve, Reason.within_tolerance)


def test_one_likely_death_is_enough_to_escalate() -> None:
    """One future in five gives it 0.6: 0.12 on the whole, far below the threshold for everything adverse."""
    grim = future(("scald", odds(scald=0.6)), ending=Ending.terminal)
    verdict = judged([grim, *[quiet()] * 4])
    assert verdict.assessment is not None
    assert verdict.assessment.adverse_probability < POLICY.threshold
    assert verdict.reason is Reason.critical_outcome_likely
    mild = future(("spill", odds(spill=0.6)), ending=Ending.terminal)
    assert judged([mild, *[quiet()] * 4]).ruling is Ruling.approve


def test_evidence_of_harm_counts_even_when_cut_short() -> None:
    cut = [future(("waiting", odds(0.7)), ("waiting", odds(0.7)), ending=Ending.deadline)] * 5
    verdict = judged(cut)
    assert verdict.assessment is not None and verdict.assessment.completed == 0
    assert verdict.reason is Reason.risk_above_threshold


def test_evidence_of_safety_must_be_whole() -> None:
    whole, cut = quiet(0.001), quiet(0.001, steps=4, ending=Ending.deadline)
    assert judged([whole] * 3 + [cut] * 2).ruling is Ruling.approve
    for short in (cut, quiet(0.001, 4, ending=Ending.settled), quiet(0.001, 4, ending=Ending.fault)):
        assert judged([whole] * 2 + [short] * 3).reason is Reason.too_few_rollouts


def test_an_interval_across_the_threshold_escalates() -> None:
    few = assess([quiet(0.045)] * 5, 5, LENS)
    assert few.adverse_probability < POLICY.threshold < few.interval[1]
    assert straddles(few, POLICY)
    assert rule(few, POLICY, Basis.simulated).reason is Reason.interval_straddles_threshold
    many = assess([quiet(0.045)] * 60, 60, LENS)
    assert not straddles(many, POLICY)
    assert rule(many, POLICY, Basis.simulated).ruling is Ruling.approve


def test_reasons_are_tried_in_order_harm_first() -> None:
    worst = Assessment(5, 0, 5, 0, 5, 0.9, (0.8, 0.95), 0.5, 0.9, {})
    doubt = Doubt(unfamiliar=True, optimistic=True, world_failed=True)
    basis, found = Basis.simulated, []
    for cure in ("interval", "critical", "world", "quorum", "straddle", "unfamiliar", "optimistic"):
        found.append(rule(worst, POLICY, basis, doubt).reason)
        match cure:
            case "interval":
                worst = replace(worst, interval=(0.2, 0.5))
            case "critical":
                worst = replace(worst, critical_probability=0.1)
            case "world":
                doubt = replace(doubt, world_failed=False)
            case "quorum":
                worst = replace(worst, completed=3)
            case "straddle":
                worst = replace(worst, interval=(0.0, 0.3))
            case "unfamiliar":
                doubt = replace(doubt, unfamiliar=False)
            case _:
                doubt = Doubt()
    assert found == [
        Reason.risk_above_threshold,
        Reason.critical_outcome_likely,
        Reason.world_model_unavailable,
        Reason.too_few_rollouts,
        Reason.interval_straddles_threshold,
        Reason.unfamiliar_situation,
        Reason.text_driven_optimism,
    ]
    assert rule(worst, POLICY, basis, doubt).reason is Reason.within_tolerance


@pytest.mark.parametrize("basis", [Basis.history_only, Basis.none, Basis.hard_rule])
def test_nothing_but_simulation_is_evidence_of_safety(basis: Basis) -> None:
    assert judged([quiet()] * 5, basis=basis).reason is Reason.world_model_unavailable


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("ruling", Ruling)
@pytest.mark.parametrize("basis", Basis)
def test_a_verdict_that_contradicts_itself_cannot_be_written(ruling: Ruling, reason: Reason, basis: Basis) -> None:
    sound = (ruling is Ruling.approve) is (reason in (Reason.within_tolerance, Reason.not_high_impact))
    sound = sound and (reason is not Reason.within_tolerance or basis is Basis.simulated)
    if sound:
        assert Verdict(ruling, reason, basis, None).reason is reason
    else:
        with pytest.raises(ValueError, match=r"contradicts|evidence of safety"):
            Verdict(ruling, reason, basis, None)


# settling


def _drawn(chance: Random, policy: RiskPolicy) -> list[Rollout]:
    """Futures of one proposal, hard or mild, some of which fail."""
    scale, share = chance.random() ** 2, chance.random()
    futures: list[Rollout] = []
    for _ in range(policy.rollouts):
        hazards = [min(1.0, scale * chance.random() * 2) for _ in range(policy.horizon)]
        lived = _lived(chance, hazards, share)
        cut = chance.randrange(len(lived.steps) + 1)
        if chance.random() < 0.1 and not LENS.went_wrong(replace(lived, steps=lived.steps[:cut])):
            lived = replace(lived, steps=lived.steps[:cut], ending=Ending.fault)
        futures.append(lived)
    return futures


def test_settling_never_changes_the_ruling() -> None:
    """Whatever order futures take their steps in, once it is settled the whole of them would have been escalated too."""
    chance, stopped = Random(77), 0
    for _ in range(2_000):
        policy = replace(
            POLICY,
            threshold=chance.choice((0.2, 0.3, 0.6)),
            critical_threshold=chance.choice((0.05, 0.1, 0.2)),
            rollouts=(rollouts := chance.choice((3, 5, 8))),
            quorum=chance.randint(1, rollouts),
        )
        bend = chance.choice(
            (((0.0, 0.0), (1.0, 1.0)), ((0.0, 0.0), (0.3, 0.1), (1.0, 1.0)), ((0.0, 0.0), (0.2, 0.5), (1.0, 1.0)))
        )
        course = (1.0, *(chance.random() * 2 + 0.01 for _ in range(policy.horizon - 1)))
        lens = replace(
            LENS,
            concentration=chance.choice((0.5, 4.0, 60.0)),
            calibrate=calibration(bend),
            course=chance.choice(((), course)),
            horizon=policy.horizon,
        )
        whole = _drawn(chance, policy)
        taken = [0] * len(whole)
        order = [number for number, lived in enumerate(whole) for _ in range(len(lived.steps) + 1)]
        chance.shuffle(order)
        for number in order:
            taken[number] += 1
            so_far = [
                lived if steps > len(lived.steps) else replace(lived, steps=lived.steps[:steps], ending=Ending.deadline)
                for steps, lived in zip(taken, whole, strict=True)
            ]
            so_far = [_ended(lived, whole[n]) for n, lived in enumerate(so_far)]
            if settled(so_far, policy, lens):
                stopped += 1
                for rollouts_seen in (whole, [_stopped(lived) for lived in so_far]):
                    verdict = rule(assess(rollouts_seen, len(whole), lens), policy, Basis.simulated)
                    assert verdict.ruling is Ruling.escalate, (policy, lens.concentration, bend, whole, so_far)
                break
    assert stopped > 500


def _ended(so_far: Rollout, whole: Rollout) -> Rollout:
    """A future has ended with the very step that ends it; a fault comes a moment later."""
    return whole if len(so_far.steps) == len(whole.steps) and whole.ending is not Ending.fault else so_far


def _stopped(so_far: Rollout) -> Rollout:
    return replace(so_far, ending=Ending.settled) if so_far.ending is Ending.deadline else so_far


def test_it_is_settled_early_when_harm_is_certain_enough_but_not_before_it_can_be_read() -> None:
    running = Rollout(1, (), Ending.deadline)
    foreseen = future(("waiting", odds(0.9)), ending=Ending.deadline)
    lens = replace(LENS, concentration=40.0)
    assert not settled([foreseen] * 5, POLICY, lens)
    assert settled([spilt(0.9)] * 2 + [foreseen] * 3, POLICY, lens)
    assert not settled([spilt(0.9), *[running] * 4], POLICY, lens)


def test_a_critical_outcome_does_not_settle_while_others_may_yet_make_it_the_less_likely_end() -> None:
    """What goes wrong early and mildly elsewhere leaves less to go critically wrong later, and might yet be approved."""
    lens = replace(LENS, concentration=60.0)
    grim = future(("waiting", odds()), ("waiting", odds()), ("scald", odds(scald=0.21)), ending=Ending.terminal)
    mild = future(("waiting", odds(spill=0.2)), *[("waiting", odds())] * 4)
    assert not settled([grim, Rollout(1, (), Ending.deadline)], replace(POLICY, quorum=2), lens)
    assert rule(assess([grim, mild], 2, lens), replace(POLICY, quorum=2), Basis.simulated).ruling is Ruling.approve
    likely = future(("scald", odds(scald=0.6)), ending=Ending.terminal)
    assert settled([likely, Rollout(1, (), Ending.deadline)], replace(POLICY, quorum=2), lens)


def test_safety_is_never_settled_early() -> None:
    assert not settled([quiet()] * 4 + [Rollout(1, (), Ending.deadline)], POLICY, LENS)


def test_too_many_faults_settle_it() -> None:
    fault, running = Rollout(1, (), Ending.fault, "x"), Rollout(1, (), Ending.deadline)
    assert not settled([fault] * 2 + [running] * 3, POLICY, LENS)
    assert settled([fault] * 3 + [running] * 2, POLICY, LENS)


# the explanation


def evidence(rollouts: Sequence[Rollout], **more: object) -> Evidence:
    return Evidence(Basis.simulated, rollouts, len(rollouts), **more)  # type: ignore[arg-type]


def told(rollouts: Sequence[Rollout], **more: object) -> Verdict:
    return judge(SpillingKettle(), PROPOSAL, evidence(rollouts, **more), replace(LENS, concentration=40.0), NOW)


def test_the_summary_counts_futures_and_names_what_they_predict_and_the_factors_beyond_their_limit() -> None:
    seen = future(("waiting", odds(0.7)), ("spill", odds(0.7)), ending=Ending.terminal, seen="the cup tips over.")
    verdict = told([seen] * 3 + [quiet(0.7)] * 2)
    summary = verdict.explanation.summary
    assert summary.startswith("3 of 5 simulated futures predict tea on the carpet: “the cup tips over”")
    assert "water 98 °C (limit 60)" in summary
    assert "fill" not in summary
    assert verdict.explanation.risk_factors[0].seen_in == 3
    assert verdict.explanation.patterns == ("3 x spill after step 2: the cup tips over.",)


def test_only_adverse_precedents_alike_enough_are_cited_and_only_recent_ones_are_counted() -> None:
    months = (2, 17, 19, 40)
    adverse = [
        Match(anchor(f"m{m}", when=NOW - timedelta(days=30.4 * m), outcome="spill"), 0.9 - m / 1000) for m in months
    ]
    harmless = Match(anchor("fine", when=NOW, outcome="tea"), 0.99)
    unlike = Match(anchor("unlike", when=NOW, outcome="scald"), 0.74)
    story = told([spilt(0.9)] * 5, matches=(harmless, *adverse, unlike)).explanation
    assert [precedent.id for precedent in story.precedents] == ["m2", "m17", "m19"]
    assert "2 similar incidents in the past 18 months." in story.summary
    alone = told([spilt(0.9)] * 5, matches=(adverse[0],)).explanation.summary
    assert "1 similar incident in the past 18 months." in alone
    assert "18 months" not in told([spilt(0.9)] * 5, matches=(adverse[2],)).explanation.summary


def test_an_approval_frightens_nobody_with_precedents() -> None:
    recent = Match(anchor("a", when=NOW, outcome="spill"), 0.9)
    summary = told([quiet(0.001)] * 5, matches=(recent,)).explanation.summary
    assert summary.startswith("0 of 5 simulated futures end badly")
    assert "18 months" not in summary


def test_a_replay_of_recorded_cases_is_not_called_a_simulation() -> None:
    replayed = Evidence(Basis.history_only, [spilt(0.9)] * 5, 5)
    verdict = judge(SpillingKettle(), PROPOSAL, replayed, LENS, NOW)
    assert "5 of 5 replays of recorded cases" in verdict.explanation.summary


def test_a_broken_rule_is_told_with_whose_rule_it_is() -> None:
    hit = RuleHit("boiling", "No boiling water near a child.", "EN 60335")
    broken = Evidence(Basis.hard_rule, rules=(hit,), gate=Reason.hard_rule)
    verdict = judge(SpillingKettle(), PROPOSAL, broken, LENS, NOW)
    assert verdict.explanation.summary.startswith("No boiling water near a child (EN 60335).")
    assert (verdict.ruling, verdict.basis) == (Ruling.escalate, Basis.hard_rule)


def test_the_worst_that_happens_is_the_scales_not_the_alphabets() -> None:
    scalded = future(("scald", odds(scald=0.9)), ending=Ending.terminal)
    assert "somebody is scalded" in told([scalded] * 5).explanation.summary


def test_only_an_escalation_is_given_a_recommendation_and_a_way_past_it() -> None:
    safer = Recommendation("wait", "Let it cool.", 0.05)
    escalated = with_recommendation(told([spilt(0.9)] * 5), safer)
    assert "Recommended: let it cool (0.05 adverse)." in escalated.explanation.summary
    assert escalated.explanation.summary.endswith("Override requires supervisor sign-off.")
    assert escalated.explanation.recommended_action == safer
    approved = told([quiet(0.001)] * 5)
    assert with_recommendation(approved, safer) == approved


def test_numbers_are_told_as_a_person_would_write_them() -> None:
    assert factor_in_words(RiskFactor("wind", 23.0, "mph", 20.0, "", True)) == "wind 23 mph (limit 20)"
    assert factor_in_words(RiskFactor("mood", "angry", "", "calm", "", True)) == "mood angry (limit calm)"
