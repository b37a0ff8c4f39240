"""What the measurements are worth: planted truths come back, and the bench runs."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from loadtest import accuracy
from loadtest.probes import OWED, probes
from loadtest.statistics import calibration_table, mean_error, spearman
from models import __main__ as command
from models.validation.rig import proposals
from models.validation.tune import LEEWAY, Group, concentration, familiar
from service.domains import catalog
from service.verdicts.assess import Lens, life_table
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.reference import Split
from service.vocabulary.rollout import Ending, Imagined, Rollout, Transition
from service.vocabulary.severity import Severity
from service.world.checkpoint import Checkpoint
from tests.toy_domain import SCALE, KettleChanges, KettleState

# statistics


def test_ranks_decide_the_correlation_and_not_the_distances() -> None:
    assert spearman([0.1, 0.2, 0.3, 0.9], [0.0, 0.01, 0.5, 0.51]) == pytest.approx(1.0)
    assert spearman([0.1, 0.2, 0.3, 0.9], [0.9, 0.3, 0.2, 0.1]) == pytest.approx(-1.0)


def test_the_correlation_is_that_of_scipy_with_ties_too() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = Random(1)
    a, b = ([round(rng.random(), 1) for _ in range(80)] for _ in range(2))
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_a_model_that_says_the_same_of_everything_ranks_nothing() -> None:
    assert spearman([0.2, 0.2, 0.2], [0.1, 0.5, 0.9]) == 0.0


def test_mean_error_of_a_planted_offset_is_the_offset() -> None:
    exact = [0.1, 0.3, 0.5]
    assert mean_error([p + 0.07 for p in exact], exact) == pytest.approx(0.07)
    assert mean_error([], []) == 0.0


def test_a_calibration_table_shows_where_risk_is_understated() -> None:
    rng = np.random.default_rng(3)
    foretold = rng.random(1_000)
    table = calibration_table(list(foretold), list(foretold * 0.5))
    assert [row["n"] for row in table] == [100] * 10
    assert all(row["exact"] == pytest.approx(row["foretold"] / 2) for row in table)
    assert [row["foretold"] for row in table] == sorted(row["foretold"] for row in table)


def test_a_short_calibration_table_has_no_empty_rows() -> None:
    assert [row["n"] for row in calibration_table([0.3, 0.1, 0.2], [0.0, 0.0, 0.0])] == [1, 1, 1]


# tuning


def _group(hazards: Iterable[float]) -> Group:
    return [_rollout([hazard]) for hazard in hazards], Lens(SCALE, Severity.serious)


def test_a_planted_concentration_comes_back() -> None:
    rng = np.random.default_rng(11)
    for planted in (2.0, 8.0, 30.0):
        p = rng.beta(0.6, 1.4, 400)
        groups = [_group(rng.beta(each * planted, (1 - each) * planted, 10)) for each in p]
        assert concentration(groups) == pytest.approx(planted, rel=0.2)


def test_futures_that_all_agree_prove_much_but_not_without_limit() -> None:
    assert concentration([_group([0.3] * 10)]) == 60.0
    assert concentration([_group([0.0, 1.0] * 5)]) == 1.0
    assert concentration([]) == 4.0


def _rollout(hazards: list[float], outcome: str = "waiting") -> Rollout:
    state, pour = KettleState(), Action(kind="pour")
    said = [*["waiting"] * (len(hazards) - 1), outcome]
    steps = [
        Imagined(Transition(state, pour, name, KettleChanges(), "", state, 0.0), {"scald": h, "waiting": 1 - h})
        for name, h in zip(said, hazards, strict=True)
    ]
    return Rollout(0, tuple(steps), Ending.terminal)


def test_a_future_is_not_safer_for_having_met_its_harm_early() -> None:
    lens = Lens(SCALE, Severity.serious)
    rollouts = [_rollout([0.2], "scald"), _rollout([0.2, 0.2, 0.2]), _rollout([0.2, 0.2, 0.2])]
    assert life_table(rollouts, lens).adverse == pytest.approx(0.488)


def test_five_in_a_thousand_ordinary_proposals_would_be_unfamiliar_without_the_leeway() -> None:
    likeness = [number / 1_000 for number in range(1_000)]
    assert sum(each < familiar(likeness) + LEEWAY for each in likeness) == 5


# accuracy


def _ruled(exact: float, foretold: float | None, ruling: str, reason: str = "within_tolerance") -> accuracy.Ruled:
    """The safety threshold is 0.3."""
    risk = None if foretold is None else {"adverse_probability": foretold}
    basis = "hard_rule" if reason == "hard_rule" else "simulated"
    rollouts = {"completed": 5, "adverse": 0}
    decision = {"ruling": ruling, "reason": reason, "basis": basis, "risk": risk, "rollouts": rollouts}
    return accuracy.Ruled(accuracy.Drawn("safety", Split.seen, 0, exact), decision)


def test_misses_and_false_alarms_are_counted_where_there_is_no_doubt_about_the_truth() -> None:
    told = accuracy.of_split(
        [
            _ruled(0.90, 0.2, "approve"),
            _ruled(0.80, 0.7, "escalate", "risk_above_threshold"),
            _ruled(0.32, 0.2, "approve"),
            _ruled(0.20, 0.4, "escalate", "interval_straddles_threshold"),
            _ruled(0.02, 0.4, "escalate", "unfamiliar_situation"),
            _ruled(0.01, 0.0, "approve"),
            _ruled(0.90, None, "escalate", "hard_rule"),
        ]
    )
    assert told["missed"] == {"count": 1, "of": 2, "rate": 0.5}
    assert told["false_alarms"] == {"count": 1, "of": 2, "rate": 0.5}
    assert told["plainly_harmless_approved"] == {"count": 1, "of": 2, "rate": 0.5}
    assert (told["hard_rule"], told["n"], told["no_risk"]) == (1, 6, 0)
    assert told["agreement"] == {"count": 2, "of": 6, "rate": 0.3333}
    assert told["false_alarm_reasons"] == {"unfamiliar_situation": 1}


def test_drawn_proposals_would_all_be_simulated_and_have_an_exact_risk() -> None:
    drawn = accuracy._exact(("safety", Split.unseen_family, 4))
    again = accuracy._exact(("safety", Split.unseen_family, 4))
    assert drawn == again
    assert all(0 <= each.exact <= 1 for each in drawn)
    field = catalog()["safety"]
    for proposal, _ in zip(proposals(field, "test"), range(20), strict=False):
        assert field.high_impact(proposal.action)
        assert not field.hard_rules(proposal)


def test_every_probe_can_be_read_and_would_be_judged() -> None:
    for probe in probes():
        domain, action = catalog()[probe["domain"]], Action.model_validate(probe["action"])
        state = domain.state_type.model_validate(probe["state"])
        assert domain.high_impact(action), probe
        if probe["kind"] != "dangerous":
            assert not domain.hard_rules(Proposal(domain=domain.name, state=state, action=action)), probe
    counted = [(probe["domain"], probe["kind"]) for probe in probes()]
    assert {(each, counted.count(each)) for each in counted} == {((d, k), 10) for d in catalog() for k in OWED}


# the command


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that has the encoder's graph already."""
    cache = tmp_path / "build" / "bench" / "history-2" / "cache"
    cache.parent.mkdir(parents=True)
    cache.symlink_to(Path(__file__).parents[2] / "build" / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["premortem-models", *arguments])
    command.main()


@pytest.mark.usefixtures("encoder")
def test_the_bench_of_one_section_runs_and_keeps_the_sections_measured_before(
    tiny_checkpoint: Checkpoint, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--checkpoint", str(tiny_checkpoint.graph.parent), "--history", "2", "--proposals", "1")
    _run(monkeypatch, "bench", *asked, "--only", "speed")
    _run(monkeypatch, "bench", *asked, "--only", "fidelity")
    told = json.loads((elsewhere / "build" / "bench.json").read_text())
    assert told["checkpoint"]["name"] == "tiny"
    names = {"p50_ms", "p95_ms", "tokens", "sequential_steps", "settled_tokens", "settled_sequential_steps"}
    assert names <= set(told["local_5x5"]) and names <= set(told["local_10x5"])
    assert set(told["fidelity"]) == {"overall", *catalog()}
    assert "5 x 5, unsettled" in capsys.readouterr().out


@pytest.mark.usefixtures("encoder")
def test_tuning_writes_into_the_manifest_and_leaves_the_checkpoint_loadable(
    tiny_checkpoint: Checkpoint, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = elsewhere / "checkpoint"
    folder.mkdir()
    for file in tiny_checkpoint.graph.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    asked = ("--checkpoint", str(folder), "--history", "2", "--played", "1", "--recalled", "5")
    _run(monkeypatch, "tune", *asked)
    assert set(Checkpoint(folder).manifest.domains) == set(catalog())


def test_a_section_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        _run(monkeypatch, "bench", "--only", "beauty")
