"""The training runs from its first stage to a checkpoint that opens, and goes on where it stopped."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from models.training.asides import Asides
from models.training.examples import ExampleBuilder, Recollection
from models.training.presets import PRESETS
from models.training.smudge import SHARE, Smudge
from models.training.train import train
from service.anchors.history import draw
from service.domains import catalog, reference
from service.world.checkpoint import Checkpoint, sha256
from service.world.codec import Codec

SMALL = replace(PRESETS["tiny"], bundled=10, trajectories=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("training")
    train(SMALL, out / "train" / "tiny", out / "checkpoint", "2026-11-23")
    return out


def test_a_trained_checkpoint_opens_and_tells_its_story(trained: Path) -> None:
    checkpoint = Checkpoint(trained / "checkpoint")
    assert all(checkpoint.codec.knows(domain) for domain in catalog().values())
    assert checkpoint.manifest.arguments["trajectories"] == SMALL.trajectories
    assert checkpoint.manifest.data["tokens"] > 1_000
    assert checkpoint.manifest.scores["outcome_log_loss"] > 0


def test_a_finished_run_started_again_gives_the_same_weights(trained: Path) -> None:
    train(SMALL, trained / "train" / "tiny", trained / "again", "2026-11-23")
    first, again = (sha256(trained / name / "model.safetensors") for name in ("checkpoint", "again"))
    assert first == again


@pytest.mark.parametrize("name", list(catalog()))
def test_the_odds_told_of_a_first_step_are_those_that_outcomes_follow(name: str) -> None:
    domain, times = catalog()[name], 1_500
    steps = [draw(reference(name), domain, "odds", n, horizon=1)[1].transitions[0] for n in range(times)]
    for outcome in domain.outcomes.names:
        told = np.array([step.odds[outcome] for step in steps if step.odds is not None])
        assert len(told) == times
        happened = sum(step.outcome == outcome for step in steps)
        assert abs(happened - told.sum()) < 4 * np.sqrt((told * (1 - told)).sum()) + 1, outcome


def test_an_outcome_is_taught_by_its_odds_where_they_are_known_and_else_by_what_happened(trained: Path) -> None:
    codec, domain = Codec((trained / "checkpoint" / "tokenizer.json").read_text()), catalog()["safety"]
    trajectory = draw(reference("safety"), domain, "odds", 1)[1]
    ids = codec.outcome_ids(domain)
    for odds in (True, False):
        builder = ExampleBuilder(codec, domain, Recollection([], np.zeros((0, 384), np.float32)), odds)
        rows = builder.build(Random(1), trajectory, []).odds
        assert len(rows) == len(trajectory.transitions)
        for row, step in zip(rows, trajectory.transitions, strict=True):
            known = step.odds if odds and step.odds is not None else {step.outcome: 1.0}
            assert sum(row) == pytest.approx(1.0)
            assert [row[id] for id in ids] == pytest.approx([known.get(each, 0.0) for each in domain.outcomes.names])


def test_a_remark_beside_the_point_is_told_last_and_changes_nothing_else(trained: Path) -> None:
    codec = Codec((trained / "checkpoint" / "tokenizer.json").read_text())
    asides, frame = Asides(codec, 1.0), codec.marker_ids
    name, complaint, said, action = codec.text("triage", "complaint", "my arm hurts", "home_care")
    told = [frame["<|domain|>"], *name, frame["<|state|>"], frame["<|field|>"], *complaint, frame["<|is|>"], *said]
    asked = [frame["<|action|>"], *action, frame["<|is|>"], frame["<|outcome:triage.settled|>"], frame["<|step|>"]]
    ids, worth = np.array(told + asked), np.array([0] * (len(told) + len(asked) - 2) + [2, 1])
    changed, worths = asides(ids, worth, np.random.default_rng(1))
    assert changed[: len(told)].tolist() == told and changed[-len(asked) :].tolist() == asked
    assert changed[len(told)] == frame["<|field|>"] and len(changed) == len(worths) > len(ids) + 3
    assert worths[worths > 0].tolist() == [2, 1]
    masked = np.array([*told[: len(name) + 2], *asked])
    assert asides(masked, worth[-len(masked) :], np.random.default_rng(1))[0].tolist() == masked.tolist()


def test_smudging_spares_numbers_markers_and_all_that_is_said(trained: Path) -> None:
    codec = Codec((trained / "checkpoint" / "tokenizer.json").read_text())
    smudge = Smudge(codec)
    frame = codec.marker_ids
    gust, spoken, action = codec.text("gust", "seen", "proceed")
    value, free, words = codec.text("23 over", "the crew looked rested this morning", "carry on with the lift")
    told = [frame["<|state|>"], frame["<|field|>"], *gust, frame["<|is|>"], *value]
    told += [frame["<|field|>"], *spoken, frame["<|is|>"], *free, frame["<|action|>"], *action, frame["<|is|>"], *words]
    said = [frame["<|outcome:safety.neutral|>"], frame["<|step|>"]]
    ids, worth = np.array(told + said), np.array([0] * len(told) + [2, 1])
    made = [smudge(ids, worth, np.random.default_rng(seed))[0].tolist() for seed in range(200)]
    changed = [each for each in made if each != ids.tolist()]
    assert SHARE / 2 < len(changed) / len(made) < SHARE * 1.5
    kept = 5 + len(gust) + len(value) - 1
    assert all(each[:kept] == ids.tolist()[:kept] and each[-2:] == said for each in changed)
    assert all(
        [id for id in each if id < len(frame)] == [id for id in told + said if id < len(frame)] for each in changed
    )
