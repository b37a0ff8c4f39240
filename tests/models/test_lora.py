"""Fine-tuning an instruct model, on a random one of two layers: what is learnt, what is masked, what is kept, what opens."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("peft", reason="the finetune extra is not installed")
pytest.importorskip("trl", reason="the finetune extra is not installed")

import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, TrainerCallback

from models.training.adapter import adapted
from models.training.examples import Worth
from models.training.lessons import HELD_SHARE, UNHEARD, Lessons, Teacher
from models.training.lora import MERGED, keep_tokenizer, settings, train
from models.training.lora_presets import LORA_PRESETS, LoraPreset
from models.training.markers import extended
from models.training.recorded import recorded
from models.training.weighed import Collator, WeighedTrainer
from service.anchors.encoder import Encoder
from service.domains import catalog
from service.vocabulary.rollout import Trajectory
from service.world.checkpoint import TOKENIZER, Checkpoint
from service.world.codec import Codec, markers
from tests.base_tokenizer import CONTROL, base_tokenizer

MADE = "2026-11-30"
SAFETY = catalog()["safety"]
KILLED_AT, SAVED_AT = 7, 4


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Matrices this small only wait for a second thread, and for long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(Exception):
    """The machine went away."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Notes every step, and kills the run at one of them."""

    def __init__(self, kill_at: int = 0) -> None:
        self.steps: list[int] = []
        self._kill_at = kill_at

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps.append(state.global_step)
        if state.global_step == self._kill_at:
            raise Killed


def base(tied: bool) -> Qwen2ForCausalLM:
    """Shaped like Qwen2.5, but random and small."""
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(json.loads(base_tokenizer())["model"]["vocab"]) + len(CONTROL),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        tie_word_embeddings=tied,
    )
    return Qwen2ForCausalLM(config)


def shrunk(folder: Path, tied: bool = False) -> LoraPreset:
    """The article's settings but for what two random layers, kept in a folder, need to learn in 20 steps."""
    folder.mkdir(exist_ok=True)
    (folder / TOKENIZER).write_text(base_tokenizer())
    base(tied).save_pretrained(folder)
    preset = replace(LORA_PRESETS["qwen2.5-7b"], base=str(folder), bf16=False, save_every=SAVED_AT)
    return replace(preset, rate=2e-2, accumulation=2, epochs=4.0, rank=4)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> LoraPreset:
    return shrunk(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def history(histories: Mapping[str, list[Trajectory]]) -> list[Trajectory]:
    """A planted history: work goes on until it is stopped by a near miss, every single time."""
    return [_planted(trajectory) for trajectory in histories["safety"][:16]]


def _planted(trajectory: Trajectory) -> Trajectory:
    first = trajectory.transitions[0]
    return replace(trajectory, transitions=(replace(first, outcome="neutral"), replace(first, outcome="near_miss")))


@pytest.fixture(scope="module")
def run(
    preset: LoraPreset, history: list[Trajectory], encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(preset, encoder, folder / "work", folder / "out", MADE, history, merge=True)
    return folder


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(extended(base_tokenizer(), markers(catalog().values())))


@pytest.fixture(scope="module")
def lessons(codec: Codec, encoder: Encoder, histories: Mapping[str, list[Trajectory]]) -> Lessons:
    return Teacher(codec, SAFETY, encoder, 2_048, 1).lessons(histories["safety"][:60])


def logged(run: Path, name: str) -> list[float]:
    """A figure as it was logged in the course of the run's training."""
    states = sorted(run.glob("work/*/checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    return [entry[name] for entry in json.loads(states[-1].read_text())["log_history"] if name in entry]


def test_a_planted_regularity_is_learnt(run: Path) -> None:
    first, *_, last = [*logged(run, "eval_outcome_loss"), Checkpoint(run / "out").manifest.scores["outcome_log_loss"]]
    assert last < 0.8 < 1.5 < first, "of all outcomes, the two that ever happen are left: log 2 is 0.69"


def test_the_adapter_tells_its_story(run: Path, preset: LoraPreset, history: list[Trajectory]) -> None:
    opened = Checkpoint(run / "out")
    story = opened.manifest
    assert all(opened.codec.knows(domain) for domain in catalog().values())
    assert (story.name, story.made, story.codec) == ("qwen2.5-7b", MADE, opened.codec.fingerprint)
    assert story.arguments["rank"] == preset.rank and story.arguments["base"] == preset.base
    assert story.data["history"] == "recorded"
    assert story.data["held_out"] == -(-len(history) * HELD_SHARE // 1)
    assert story.parent.startswith(f"{Path(preset.base).name}@") and len(story.parent.split("@")[1]) == 64
    assert {"adapter_model.safetensors", "adapter_config.json", TOKENIZER} == set(story.files)


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_the_merged_checkpoint_is_the_base_with_its_adapter(
    tied: bool, run: Path, codec: Codec, history: list[Trajectory], encoder: Encoder, tmp_path: Path
) -> None:
    out = run / "out"
    if tied:
        out = tmp_path / "out"
        brief = replace(shrunk(tmp_path / "base", tied), epochs=1.0)
        train(brief, encoder, tmp_path / "work", out, MADE, history, merge=True)
    Checkpoint(out / MERGED)
    merged = AutoModelForCausalLM.from_pretrained(out / MERGED, dtype=torch.float32).eval()
    apart = AutoPeftModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    assert merged.config.tie_word_embeddings is tied
    ids = torch.tensor([[*codec.marker_ids.values(), *codec.text("the crane lifts in a gust of 23 mph")[0]]])
    with torch.no_grad():
        whole, parts = merged(ids).logits, apart(ids).logits
        with apart.disable_adapter():
            bare = apart(ids).logits
    assert torch.allclose(whole, parts, atol=1e-4)
    assert not torch.allclose(whole, bare, atol=0.1)
    assert merged.generation_config.eos_token_id == codec.step


def test_the_kept_tokenizer_opens_with_the_markers_where_the_codec_has_them(run: Path, codec: Codec) -> None:
    for folder in (run / "out", run / "out" / MERGED):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert [tokenizer.convert_tokens_to_ids(name) for name in codec.marker_ids] == [*codec.marker_ids.values()]
        assert Codec((folder / TOKENIZER).read_text()).fingerprint == codec.fingerprint


def test_a_killed_run_goes_on_where_it_was_saved_and_ends_the_same(
    run: Path, preset: LoraPreset, history: list[Trajectory], encoder: Encoder, tmp_path: Path
) -> None:
    killed, resumed = Watch(KILLED_AT), Watch()
    with pytest.raises(Killed):
        train(preset, encoder, tmp_path / "work", tmp_path / "out", MADE, history, watch=[killed])
    (half,) = (tmp_path / "work").iterdir()
    (half / f"checkpoint-{KILLED_AT}").mkdir()
    train(preset, encoder, tmp_path / "work", tmp_path / "out", MADE, history, watch=[resumed])
    assert killed.steps == [*range(1, KILLED_AT + 1)]
    assert resumed.steps[0] == SAVED_AT + 1, "a checkpoint that was cut short is passed over"
    whole, again = (Checkpoint(folder / "out").manifest for folder in (run, tmp_path))
    assert again.scores["outcome_log_loss"] == pytest.approx(whole.scores["outcome_log_loss"], rel=1e-4)
    assert whole.files[TOKENIZER] == again.files[TOKENIZER] and whole.data == again.data


def test_another_history_does_not_go_on_from_this_one(
    run: Path, preset: LoraPreset, history: list[Trajectory], encoder: Encoder, tmp_path: Path
) -> None:
    watch = Watch(kill_at=1)
    with pytest.raises(Killed):
        train(preset, encoder, run / "work", tmp_path, MADE, history[:-2], watch=[watch])
    assert watch.steps == [1]


def test_what_is_told_carries_no_loss_and_all_that_is_said_does(lessons: Lessons, codec: Codec) -> None:
    outcomes = set(codec.outcome_ids(SAFETY))
    for (example, _), row in zip(lessons.learnt, lessons.rows(16.0), strict=True):
        assert row["input_ids"] == example.ids
        for id, worth, label, weight in zip(example.ids, example.worth, row["labels"], row["weights"], strict=True):
            assert (label, weight > 0) == ((UNHEARD, False) if worth is Worth.told else (id, True))
            assert worth is not Worth.outcome or id in outcomes
        starts = [place for place, worth in enumerate(example.worth) if worth is Worth.outcome]
        ends = [place for place, id in enumerate(example.ids) if id == codec.step]  # only what is said ends a step
        heard = [place for place, label in enumerate(row["labels"]) if label != UNHEARD]
        assert heard == [at for start, end in zip(starts, ends, strict=True) for at in range(start, end + 1)]


def test_an_outcome_weighs_more_by_its_share_and_all_weights_average_to_one(lessons: Lessons) -> None:
    rows = lessons.rows(16.0)
    weights = [weight for row in rows for weight in row["weights"] if weight]
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    for (example, share), row in zip(lessons.learnt, rows, strict=True):
        said = {weight for weight, worth in zip(row["weights"], example.worth, strict=True) if worth is Worth.said}
        due = {weight for weight, worth in zip(row["weights"], example.worth, strict=True) if worth is Worth.outcome}
        (plain,), (outcome,) = said, due
        assert outcome == pytest.approx(16.0 * share * plain)


def test_no_case_is_reminded_of_itself(
    codec: Codec, encoder: Encoder, histories: Mapping[str, list[Trajectory]]
) -> None:
    """Two histories of one and the same case: each recalls the other, and a case alone recalls nothing."""
    twin = histories["safety"][0]
    alone, twins = ([replace(twin, id=f"twin-{n}") for n in range(count)] for count in (2, 4))
    mark = codec.marker_ids["<|precedent|>"]
    counts = []
    for trajectories in (alone, twins):
        learnt = Teacher(codec, SAFETY, encoder, 2_048, 1).lessons(trajectories).learnt
        counts.append([example.ids.count(mark) for example, _ in learnt])
    assert set(counts[0]) == {0} and max(counts[1]) > 0


def test_the_loss_is_the_weighted_cross_entropy_of_the_learnt_tokens(
    preset: LoraPreset, codec: Codec, lessons: Lessons, tmp_path: Path
) -> None:
    keep_tokenizer(extended(base_tokenizer(), markers(catalog().values())), tmp_path)
    rows = lessons.rows(16.0)[:4]
    model = adapted(preset, AutoModelForCausalLM.from_pretrained(preset.base, dtype=torch.float32), codec).eval()
    trainer = WeighedTrainer(
        model,
        args=settings(preset, tmp_path / "run"),
        data_collator=Collator(codec.pad),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tmp_path),
    )
    batch = Collator(codec.pad)(rows)
    with torch.no_grad():
        loss = trainer.compute_loss(model, dict(batch)).item()
        total = count = 0.0
        for row in rows:
            said = functional.log_softmax(model(torch.tensor([row["input_ids"]])).logits[0], -1)
            for place, (label, weight) in enumerate(zip(row["labels"], row["weights"], strict=True)):
                if label != UNHEARD:
                    total -= weight * said[place - 1, label].item()
                    count += 1
    assert loss == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_what_is_trained_is_the_adapter_and_the_markers_in_full_precision(
    tied: bool, preset: LoraPreset, codec: Codec
) -> None:
    """A step of 2e-5 on a row kept in bf16 would be rounded away."""
    model = adapted(preset, base(tied).to(torch.bfloat16), codec)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    rows = [tuple(weight.shape) for name, weight in trained.items() if "trainable_tokens" in name]
    assert rows == [(len(codec.marker_ids), 64)] * (1 if tied else 2)
    assert all("lora_" in name or "trainable_tokens" in name for name in trained)


def test_a_marker_begins_as_the_words_it_is_made_of(preset: LoraPreset, codec: Codec) -> None:
    model = base(tied=False)
    tables = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    words = [table.detach()[codec.text("outcome safety near miss")[0]].clone() for table in tables]
    adapted(preset, model, codec)
    marker = codec.marker_ids["<|outcome:safety.near_miss|>"]
    for table, means in zip((model.get_input_embeddings(), model.get_output_embeddings()), words, strict=True):
        assert torch.allclose(table.weight[marker], means.mean(0), atol=1e-6)


def test_a_recorded_trajectory_is_read_as_it_was_written(
    histories: Mapping[str, list[Trajectory]], tmp_path: Path
) -> None:
    told = [trajectory for trajectories in histories.values() for trajectory in trajectories[:5]]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(_line(each)) + "\n" for each in told))
    for read, written in zip(recorded(tmp_path / "history.jsonl"), told, strict=True):
        bare = tuple(replace(step, odds=None) for step in written.transitions)
        assert (read.id, read.domain, read.source, read.when) == (
            written.id,
            written.domain,
            written.source,
            written.when,
        )
        for step, wanted in zip(read.transitions, bare, strict=True):
            assert (step.state, step.action, step.outcome, step.changes) == (
                wanted.state, wanted.action, wanted.outcome, wanted.changes,
            )  # fmt: skip


def test_a_line_that_cannot_be_read_is_named(histories: Mapping[str, list[Trajectory]], tmp_path: Path) -> None:
    good, unknown = (_line(histories["safety"][0]) for _ in range(2))
    unknown["transitions"][0]["outcome"] = "a miracle"
    (tmp_path / "history.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(unknown)}\n")
    with pytest.raises(ValueError, match=r"history\.jsonl:2: 'a miracle' is not one of"):
        list(recorded(tmp_path / "history.jsonl"))


def _line(trajectory: Trajectory) -> dict[str, Any]:
    steps = [
        {
            "state": step.state.model_dump(mode="json"),
            "action": step.action.model_dump(mode="json"),
            "outcome": step.outcome,
            "changes": step.changes.model_dump(mode="json", exclude_defaults=True),
            "observation": step.observation,
        }
        for step in trajectory.transitions
    ]
    head = {"id": trajectory.id, "domain": trajectory.domain, "source": trajectory.source}
    return head | {"when": trajectory.when.isoformat(), "transitions": steps}
