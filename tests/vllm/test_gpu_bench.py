"""The bench that is meant for a GPU, on vLLM's CPU build; and the model that it is meant to time there."""

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from loadtest.engine import installed, serving
from loadtest.gpu_bench import BATCHES, BUNDLED, QUICK, SECTIONS, Told, measure, proposals, summary
from loadtest.large_body import BODIES, make_model
from service.domains import catalog
from service.world.checkpoint import Checkpoint
from service.world.model import Opening

needs_vllm = pytest.mark.skipif(not installed(), reason="vLLM's CPU build is not installed (make vllm)")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The sections that ask the engine alone, quickly, over the bundled checkpoint."""

    async def measured() -> Told:
        found: Told = {}
        async with serving(BUNDLED, tmp_path_factory.mktemp("vllm") / "vllm.log") as engine:
            sections = {name: SECTIONS[name] for name in ("machine", "floor", "steps", "plain_loop")}
            await measure(engine.url, BUNDLED, QUICK, sections, found)
        return found

    return asyncio.run(measured())


@needs_vllm
def test_no_section_of_the_engine_is_skipped(told: Told) -> None:
    assert {name: section["skipped"] for name, section in told.items() if "skipped" in section} == {}
    assert told["machine"]["checkpoint"] == "mini" and told["machine"]["vllm"]


@needs_vllm
def test_five_futures_at_once_cost_far_less_than_five_times_one(told: Told) -> None:
    assert [*told["steps"]] == [str(batch) for batch in BATCHES]
    assert 0 < told["steps"]["5"]["ms_per_step"] < 5 * told["steps"]["1"]["ms_per_step"]


@needs_vllm
def test_no_step_is_faster_than_its_weights_can_be_read(told: Told) -> None:
    assert all(row["ratio_to_floor"] >= 1 for row in told["steps"].values())


@needs_vllm
def test_the_plain_loop_loses_to_the_same_tokens_side_by_side(told: Told) -> None:
    assert told["plain_loop"]["tokens"] == 1_000
    assert summary(told)["speedup_at_equal_tokens"] > 1


def test_a_small_checkpoint_says_in_a_large_body_what_it_always_said(tmp_path: Path) -> None:
    """In float32 but for its own bf16 weights; and rows of the head that are no words are never said."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    make_model(BUNDLED, tmp_path, "tiny")
    small, large = (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (BUNDLED, tmp_path)
    )
    checkpoint, words = Checkpoint(tmp_path), small.config.vocab_size
    assert large.config.vocab_size == BODIES["tiny"]["vocab_size"] > words
    for proposal in islice(proposals(), 6):
        opening = Opening(catalog()[proposal.domain], proposal.state, proposal.action)
        ids = torch.tensor([checkpoint.codec.prompt(opening)])
        with torch.no_grad():
            owed, said = (model(ids).logits[0].softmax(-1) for model in (small, large))
        assert said[:, words:].sum() < 1e-6
        assert (said[-1, :words] - owed[-1]).abs().max() < 0.01
