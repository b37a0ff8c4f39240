"""What the backtest on real histories is worth: planted truths come back, and nothing is learnt where nothing is."""

import asyncio
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.sparse import csr_matrix

from models import __main__ as command
from models.validation.figure import Figure
from models.validation.histories.judged import auroc, missed, verdict
from models.validation.histories.neighbours import Readings
from models.validation.histories.stacking import LOOSE, TIGHT, fitted
from models.validation.histories.systems import NAMES
from models.validation.real import Backtest

SITES = [f"site-{number}" for number in range(8)]
CREWS = [f"crew-{number}" for number in range(12)]
MAPPING = {
    "file": "work*.jsonl",
    "domain": "safety",
    "group": "job",
    "state": {"site_id": "state.site", "task_description": {"text": "{state.task}"}},
    "action": {"kind": {"value": "lift"}, "text": {"text": "Carry on with {state.task}."}},
    "codes": ["state.site", "state.crew"],
    "subgroups": {"site": "state.site"},
    "questions": [
        {"name": "hurt", "label": "label", "adverse": [1], "benign": [0], "outcomes": ["no_incident", "near_miss"]}
    ],
}


def history(path: Path, count: int, seed: str, planted: bool = True, first_job: int = 0) -> Path:
    """Harm at the first three sites in nine of ten jobs, elsewhere in one; or by chance alone. Two records a job."""
    rng = Random(seed)
    with path.open("w") as file:
        for number in range(count):
            site, crew = rng.choice(SITES), rng.choice(CREWS)
            odds = 0.5 if not planted else 0.9 if site in SITES[:3] else 0.1
            state = {"site": site, "crew": crew, "task": "lifting panels"}
            told = {"job": first_job + number // 2, "state": state, "label": int(rng.random() < odds)}
            file.write(json.dumps(told) + "\n")
    return path


def backtest(folder: Path, recorded: Path, **rest: Any) -> dict[str, Any]:
    mapping = folder / "work.yaml"
    mapping.write_text(yaml.safe_dump(rest.pop("mapping", MAPPING)))
    return asyncio.run(Backtest(recorded, mapping, work=folder / "work", **rest).measure())


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("planted")
    return backtest(folder, history(folder / "work.jsonl", 160, "planted"))


# the whole way


def test_a_planted_signal_is_found_by_whoever_can_learn(planted: dict[str, Any]) -> None:
    systems = planted["questions"]["hurt"]["systems"]
    assert set(systems) == set(NAMES)
    for name in ("cases", "probe", "combined", "baseline"):
        assert systems[name]["auroc"]["low"] > 0.7, name
        assert systems[name]["ece"]["value"] < 0.2


def test_everyone_is_scored_once_and_the_worst_group_is_named(planted: dict[str, Any]) -> None:
    asked = planted["questions"]["hurt"]
    assert asked["scored"] == 160 and asked["splits"] == 5
    by_site = asked["systems"]["combined"]["subgroups"]["site"]
    assert set(by_site) == set(SITES) and sum(each["n"] for each in by_site.values()) == 160


def test_where_nothing_is_to_be_learnt_nothing_stands_above_chance(tmp_path: Path) -> None:
    found = backtest(tmp_path, history(tmp_path / "work.jsonl", 100, "noise", planted=False))
    for name, system in found["questions"]["hurt"]["systems"].items():
        assert system["auroc"]["low"] <= 0.5, name


def test_anchors_of_their_own_score_the_whole_history_and_a_leaked_group_is_left_out(tmp_path: Path) -> None:
    scored = history(tmp_path / "work-held.jsonl", 60, "held")
    anchors = history(tmp_path / "work-dev.jsonl", 160, "dev", first_job=29)
    asked = backtest(tmp_path, scored, anchors=anchors)["questions"]["hurt"]
    assert asked["scored"] == 60 and asked["splits"] == 1
    assert asked["leak"]["groups_left_out"] == 1
    assert [each["cases"] for each in asked["quality"]] == [60, 160]
    assert asked["systems"]["combined"]["auroc"]["value"] > 0.75


def test_the_same_history_gives_the_same_figures(tmp_path: Path) -> None:
    told = [backtest(tmp_path, history(tmp_path / "work.jsonl", 40, "again")) for _ in range(2)]
    assert told[0] == told[1]


def test_a_rejected_line_is_in_the_result(tmp_path: Path) -> None:
    path = history(tmp_path / "work.jsonl", 20, "broken")
    path.write_text("{\n" + path.read_text())
    (told,) = backtest(tmp_path, path)["questions"]["hurt"]["quality"]
    assert told["cases"] == 20 and list(told["first_rejected"].values()) == [1]


def test_a_history_in_which_all_ends_alike_is_refused(tmp_path: Path) -> None:
    path = history(tmp_path / "work.jsonl", 20, "alike")
    path.write_text("".join(line.replace('"label": 1', '"label": 0') + "\n" for line in path.read_text().splitlines()))
    with pytest.raises(ValueError, match="all alike"):
        backtest(tmp_path, path)


def test_texts_are_encoded_once_and_kept(tmp_path: Path) -> None:
    path, mapping = history(tmp_path / "work.jsonl", 30, "texts"), MAPPING | {"text": {"text": "{state.site}"}}
    first = backtest(tmp_path, path, mapping=mapping)
    (kept,) = (tmp_path / "work").glob("vectors-*.npy")
    assert np.load(kept).shape[1] == 384 and len(np.load(kept)) <= len(SITES)
    assert backtest(tmp_path, path, mapping=mapping) == first


def test_in_a_pair_test_the_twin_that_is_not_gated_is_approved_unseen(tmp_path: Path) -> None:
    question = MAPPING["questions"][0] | {"twin": {"kind": {"value": "postpone"}}}  # type: ignore[index]
    path = history(tmp_path / "work.jsonl", 40, "twins")
    asked = backtest(tmp_path, path, mapping=MAPPING | {"questions": [question]})["questions"]["hurt"]
    assert asked["twins"]["n"] == 40
    assert asked["twins"]["auroc"]["cases"] > asked["systems"]["cases"]["auroc"]["value"]


def run(monkeypatch: pytest.MonkeyPatch, *told: object) -> None:
    monkeypatch.setattr(sys, "argv", ["premortem-models", "backtest", *map(str, told)])
    command.main()


def test_the_command_shows_a_table_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work.yaml").write_text(yaml.safe_dump(MAPPING))
    path, out, page = history(tmp_path / "work.jsonl", 20, "command"), tmp_path / "deep", tmp_path / "REAL.md"
    run(monkeypatch, "--history", path, "--mapping", tmp_path / "work.yaml", "--out", out, "--page", page)
    told = json.loads((out / "work.json").read_text())["questions"]["hurt"]
    assert told["scored"] == 20
    assert f"{told['systems']['combined']['auroc']['value']:.3f}" in page.read_text()
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)


def test_a_history_that_no_mapping_fits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="--mapping"):
        run(monkeypatch, "--history", tmp_path / "strange.jsonl")


# its parts


def test_nobody_is_told_of_their_own_group() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2])
    near = Readings(csr_matrix(np.eye(2)[[0] * 6]), None, groups).nearest(np.arange(6), np.arange(6))
    assert all(groups[near.rows[row, :4]].tolist().count(groups[row]) == 0 for row in range(6))


def test_the_nearest_cases_decide_and_the_far_ones_hardly() -> None:
    alike, adverse = np.eye(4)[[0] * 20 + [1] * 20 + [0, 1]], np.array([1.0] * 20 + [0.0] * 20 + [0, 0])
    near = Readings(csr_matrix(alike), None, np.arange(42)).nearest(np.array([40, 41]), np.arange(40))
    bad, good = near.risk(adverse, 0.5)
    assert bad > 0.85 and good < 0.15


def test_ranks_are_compared_only_within_a_part() -> None:
    adverse, risk = np.array([True, False, True, False]), np.array([0.2, 0.1, 0.9, 0.8])
    assert auroc(adverse, risk, np.array([0, 0, 1, 1])) == 1.0
    assert auroc(adverse, risk, np.zeros(4, np.int64)) == 0.75
    assert auroc(adverse, np.full(4, 0.3), np.zeros(4, np.int64)) == 0.5
    assert np.isnan(auroc(adverse[:1], risk[:1], np.zeros(1, np.int64)))


def test_what_a_review_of_the_riskiest_misses() -> None:
    adverse, risk = np.array([True, True, False, False, False]), np.array([0.9, 0.1, 0.5, 0.4, 0.3])
    assert missed(adverse, risk, 0.2) == 0.5 and missed(adverse, risk, 1.0) == 0.0


def test_only_an_interval_clear_of_nought_is_a_difference() -> None:
    assert verdict(Figure(0.1, 0.01, 0.2, 9)) == "above"
    assert verdict(Figure(0.1, -0.01, 0.2, 9)) == "not distinguishable"
    assert verdict(Figure(-0.1, -0.2, -0.01, 9)) == "below"


def test_a_stack_leans_on_the_one_that_knows_and_not_on_noise() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(800)
    adverse, noise = (rng.random(800) < truth).astype(float), rng.random(800)
    knowing, blind = fitted([truth, noise], adverse, TIGHT).weights
    assert knowing > 0.8 and blind < 0.1


def test_calibration_mends_a_risk_that_is_too_bold() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.05, 0.95, 4_000)
    adverse = (rng.random(4_000) < truth).astype(float)
    odds = (truth / (1 - truth)) ** 3
    mended = fitted([odds / (1 + odds)], adverse, LOOSE)([odds / (1 + odds)])
    assert np.abs(mended - truth).mean() < 0.02
