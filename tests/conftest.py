"""What every test may ask for."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from loadtest.engine import Engine, installed, launch
from models.training.tokenizer import train_tokenizer
from service.anchors.encoder import Encoder
from service.anchors.history import draw
from service.domains import catalog, reference
from service.settings import Settings
from service.vocabulary.rollout import Trajectory
from service.world.checkpoint import GRAPH, MANIFEST, TOKENIZER, Checkpoint, Manifest, sha256
from service.world.codec import CHANGE, IS, OBSERVED, STEP, Codec, fold, markers, pairs
from tests.toy_domain import KettleDomain

VOCABULARY, WIDTH, CALM = 512, 64, 4.0


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(Path(__file__).parent.parent / "build" / "cache")


@pytest.fixture(scope="session")
def histories() -> Mapping[str, list[Trajectory]]:
    """150 recorded trajectories of every domain."""
    return {
        name: [draw(reference(name), domain, "bundled", number)[1] for number in range(150)]
        for name, domain in catalog().items()
    }


@pytest.fixture(scope="session")
def tokenizer_json(histories: Mapping[str, list[Trajectory]]) -> str:
    """A small tokenizer that holds the markers of every domain, the kettle's among them."""
    texts: list[str] = []
    for trajectories in histories.values():
        for step in (step for trajectory in trajectories[:60] for step in trajectory.transitions):
            texts += [f" {fold(step.action.text)}", f" {step.observation}"]
            texts += [f" {part}" for pair in pairs(step.changes) for part in pair]
    return train_tokenizer(texts, markers([*catalog().values(), KettleDomain()]), VOCABULARY)


@pytest.fixture(scope="session")
def codec(tokenizer_json: str) -> Codec:
    return Codec(tokenizer_json)


@pytest.fixture(scope="session")
def tiny_checkpoint(tokenizer_json: str, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random network of two layers that was leant on: it names an outcome of the kettle where one is due, and ends what it says."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from models.training.presets import PRESETS
    from models.training.train import config, save

    torch.manual_seed(5)
    preset = PRESETS["tiny"]
    shape = config(preset, codec)
    shape.vocab_size, shape.hidden_size, shape.tie_word_embeddings = codec.vocabulary_size, WIDTH, False
    model = transformers.Qwen3ForCausalLM(shape).eval()
    _lean(model, codec, torch)
    folder: Path = tmp_path_factory.mktemp("tiny")
    save(model, codec, tokenizer_json, folder)
    files = {name: sha256(folder / name) for name in ("model.safetensors", GRAPH, TOKENIZER, "config.json")}
    story = Manifest(
        name="tiny", codec=codec.fingerprint, made="2026-11-23", revision="test", arguments={}, data={}, files=files
    )
    (folder / MANIFEST).write_text(story.model_dump_json())
    return Checkpoint(folder)


@pytest.fixture(scope="session")
def tiny_engine(tiny_checkpoint: Checkpoint) -> Iterator[Engine]:
    """The real vLLM over the tiny checkpoint."""
    yield from _engine(tiny_checkpoint.graph.parent)


@pytest.fixture(scope="session")
def mini_engine() -> Iterator[Engine]:
    """The real vLLM over the bundled checkpoint."""
    yield from _engine(Settings().checkpoint)


def _engine(folder: Path) -> Iterator[Engine]:
    if not installed():
        pytest.skip("vLLM is not installed here: `make test-vllm` installs its CPU build and runs this")
    engine = launch(folder, Path("build") / "test" / "vllm.log")
    yield engine
    engine.stop()


def _lean(model: Any, codec: Codec, torch: Any) -> None:
    """Dimension 0 says what is due: outcomes before all else, then an end, never a change. Dimension 1 keeps prose going."""
    marks = codec.marker_ids
    outcomes = [id for name, id in marks.items() if name.startswith("<|outcome:kettle.")]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(0, 1.0 if "embed" in name else 0.15 if "head" in name else 0.07)
        table, head = model.model.embed_tokens.weight, model.lm_head.weight
        table[:, 0], table[:, 1] = CALM, CALM
        table[: len(marks), 1] = -CALM
        table[marks[OBSERVED], 1] = CALM
        head[:, 0], head[:, 1] = 0.0, 1.4
        head[: len(marks), 0], head[: len(marks), 1] = -4.0, 0.0
        head[outcomes, 0] = 6.0
        head[[marks[STEP], marks[OBSERVED]], 0] = 3.0
        head[[marks[CHANGE], marks[IS]], 0] = -6.0
