"""The tree computes what the plain model computes, for every future, whatever else happens in the same pass."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.training.export import Precision, UnsupportedCheckpoint, export
from service.world.tree import Engine, Floats, Tree, TreeFull

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONTEXT = 96
SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
}
PROMPT = list(range(3, 40))
RAGGED = [{0: [5, 6, 7], 2: [9]}, {1: [11], 2: [12, 13]}, {4: [1, 2, 3, 4, 5, 6], 0: [8], 3: [77]}, {3: [2], 1: [5, 5]}]


def network(kind: str = "Qwen3", *, tied: bool = True, **sizes: int) -> Any:
    torch.manual_seed(7)
    settings = {**SIZES, **sizes, "tie_word_embeddings": tied, "initializer_range": 0.15}
    config = getattr(transformers, f"{kind}Config")(**settings)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model


def save(model: Any, folder: Path, precision: Precision) -> Path:
    model.save_pretrained(folder)
    export(folder, folder / f"{precision}.onnx", CONTEXT, precision)
    return folder / f"{precision}.onnx"


@pytest.fixture(scope="module")
def model() -> Any:
    return network()


@pytest.fixture(scope="module")
def graph(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(model, tmp_path_factory.mktemp("qwen"), "fp32")


@pytest.fixture(scope="module")
def small_graph(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(model, tmp_path_factory.mktemp("int8"), "int8")


@pytest.fixture
def engine(graph: Path) -> Engine:
    return Engine(graph, threads=1)


def expected(model: Any, tokens: Sequence[int]) -> Floats:
    with torch.no_grad():
        logits: Floats = model(torch.tensor([list(tokens)])).logits[0, -1].float().numpy()
    return logits


def assert_close(got: Floats, wanted: Floats) -> None:
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def divergence(wanted: Floats, got: Floats) -> float:
    """KL in nats."""
    p, q = (logits - np.logaddexp.reduce(logits) for logits in (wanted.astype(float), got.astype(float)))
    return float((np.exp(p) * (p - q)).sum())


def branches(tree: Tree, count: int) -> list[int]:
    return [tree.branch() for _ in range(count)]


def assert_ragged_futures_match(tree: Tree, model: Any) -> None:
    assert_close(tree.prompt_logits, expected(model, PROMPT))
    names = branches(tree, 5)
    for step in RAGGED:
        for name, logits in tree.extend({names[at]: tokens for at, tokens in step.items()}).items():
            assert_close(logits, expected(model, [*PROMPT, *tree.tokens(name)]))


def test_ragged_futures_have_the_logits_of_the_plain_model(engine: Engine, model: Any) -> None:
    assert_ragged_futures_match(engine.tree(PROMPT, room=100), model)


@pytest.mark.parametrize(("kind", "tied"), [("Llama", True), ("Llama", False), ("Qwen3", False)])
def test_llama_and_an_untied_head_are_exported_too(kind: str, tied: bool, tmp_path: Path) -> None:
    other = network(kind, tied=tied)
    assert_ragged_futures_match(Engine(save(other, tmp_path, "fp32")).tree(PROMPT, room=100), other)


def test_a_checkpoint_in_bfloat16_is_read(tmp_path: Path) -> None:
    engine = Engine(save(network().to(torch.bfloat16), tmp_path, "fp32"))
    whole = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert_ragged_futures_match(engine.tree(PROMPT, room=100), whole)


def test_a_checkpoint_the_graph_cannot_express_is_refused(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**SIZES, attention_bias=True)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedCheckpoint, match="attention_bias"):
        export(tmp_path, tmp_path / "model.onnx")


def test_the_same_weights_give_the_same_bytes(small_graph: Path, tmp_path: Path) -> None:
    export(small_graph.parent, tmp_path / "again.onnx", CONTEXT)
    assert (tmp_path / "again.onnx").read_bytes() == small_graph.read_bytes()


@pytest.mark.parametrize("graph_name", ["graph", "small_graph"])
def test_a_branch_is_independent_of_its_siblings(graph_name: str, request: pytest.FixtureRequest) -> None:
    engine = Engine(request.getfixturevalue(graph_name), threads=1)
    alone, together = engine.tree(PROMPT, room=100), engine.tree(PROMPT, room=200)
    single, names = alone.branch(), branches(together, 5)
    for step in range(19):
        company = {name: [name * 9 + step] * (1 + (name + step) % 3) for name in names[1 + step % 4 :]}
        beside = together.extend({**company, names[0]: [step]})[names[0]]
        np.testing.assert_allclose(beside, alone.extend({single: [step]})[single], atol=1e-5)


def test_in_int8_company_seldom_moves_a_branch(tmp_path: Path) -> None:
    """Not never: the last bit of a sum can tip a rounding. With one scale for all tokens it would be always."""
    wide = network(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8, head_dim=64)
    tree = Engine(save(wide, tmp_path, "int8"), threads=1).tree(PROMPT, room=400)
    moved = []
    for token in range(60):
        single, *pair = branches(tree, 3)
        beside = tree.extend({name: [token] for name in pair})[pair[0]]
        moved.append(np.abs(beside - tree.extend({single: [token]})[single]).max() > 1e-3)
    assert np.mean(moved) < 0.1


def test_a_branch_born_late_begins_at_the_end_of_the_prompt(engine: Engine, model: Any) -> None:
    tree = engine.tree(PROMPT, room=200)
    for name in branches(tree, 20):
        tree.extend({name: [name, 1]})
    late = tree.branch()
    assert tree.tokens(late) == ()
    assert_close(tree.extend({late: [50]})[late], expected(model, [*PROMPT, 50]))


def test_a_remembered_prefix_changes_no_logits(graph: Path, model: Any) -> None:
    engine = Engine(graph, remembered_prompts=2)
    for prompt in (PROMPT, [*PROMPT, 1, 2], PROMPT, PROMPT[:20], [*PROMPT[:20], 9, 9], [99, *PROMPT], PROMPT[:1]):
        tree = engine.tree(prompt, room=20)
        name = tree.branch()
        assert_close(tree.prompt_logits, expected(model, prompt))
        assert_close(tree.extend({name: [4, 5]})[name], expected(model, [*prompt, 4, 5]))


def test_a_remembered_prefix_is_not_computed_again(engine: Engine) -> None:
    prompts = (PROMPT, PROMPT, [*PROMPT, 1, 2], PROMPT[:-5])
    assert [engine.tree(prompt, room=0).prompt_computed for prompt in prompts] == [len(PROMPT), 1, 2, 1]


def test_what_one_tenant_told_is_computed_again_for_another(engine: Engine, model: Any) -> None:
    told = [("north", PROMPT), ("south", PROMPT), ("north", [*PROMPT, 1, 2]), ("south", [*PROMPT, 1]), ("", PROMPT)]
    trees = [engine.tree(prompt, 0, tenant) for tenant, prompt in told]
    assert [tree.prompt_computed for tree in trees] == [len(PROMPT), len(PROMPT), 2, 1, len(PROMPT)]
    for tree, (_, prompt) in zip(trees, told, strict=True):
        assert_close(tree.prompt_logits, expected(model, prompt))
    assert engine.tree(PROMPT, 0, "north").prompt_computed == 1


def test_the_prompt_unused_for_longest_is_forgotten(graph: Path) -> None:
    engine = Engine(graph, remembered_prompts=3)
    first, second, third, fourth = ([start, *PROMPT] for start in (100, 101, 102, 103))
    for prompt in (first, second, third, first, first, fourth):
        engine.tree(prompt, room=0)
    assert [engine.tree(prompt, room=0).prompt_computed for prompt in (third, fourth, first)] == [1, 1, 1]
    assert engine.tree(second, room=0).prompt_computed == len(second)


def test_threads_share_an_engine(engine: Engine, model: Any) -> None:
    def play(start: int) -> tuple[list[int], Floats]:
        prompt = [start % 4, *PROMPT]
        tree = engine.tree(prompt, room=4)
        name = tree.branch()
        for token in range(start, start + 12):
            logits = tree.extend({name: [token]})[name]
        return [*prompt, *tree.tokens(name)], logits

    with ThreadPoolExecutor(4) as pool:
        for tokens, logits in pool.map(play, range(24)):
            assert_close(logits, expected(model, tokens))


def test_a_tree_without_room_grows_and_goes_on(engine: Engine, model: Any) -> None:
    assert_ragged_futures_match(engine.tree(PROMPT, room=0), model)


def test_what_dropped_branches_held_is_used_again(graph: Path, model: Any) -> None:
    tree = Engine(graph, slot_limit=len(PROMPT) + 12).tree(PROMPT, room=12)
    first, kept, *others = branches(tree, 4)
    tree.extend({first: [9, 2], kept: [3, 1], **{name: [name, 2] for name in others}})
    for name in (first, *others):
        tree.drop(name)
    logits = tree.extend({kept: [6, 7, 8, 9, 10]})[kept]
    assert_close(logits, expected(model, [*PROMPT, 3, 1, 6, 7, 8, 9, 10]))
    with pytest.raises(KeyError):
        tree.tokens(first)
    with pytest.raises(KeyError):
        tree.extend({first: [1]})


def test_a_full_tree_says_so_and_stays_whole(graph: Path, model: Any) -> None:
    tree = Engine(graph, slot_limit=len(PROMPT) + 6).tree(PROMPT, room=1)
    name = tree.branch()
    tree.extend({name: [1, 2, 3]})
    with pytest.raises(TreeFull):
        tree.extend({name: [4, 5, 6, 7]})
    assert tree.tokens(name) == (1, 2, 3)
    assert_close(tree.extend({name: [4, 5, 6]})[name], expected(model, [*PROMPT, 1, 2, 3, 4, 5, 6]))


def test_no_future_passes_the_context_of_the_model(engine: Engine) -> None:
    tree = engine.tree(PROMPT, room=CONTEXT)
    name = tree.branch()
    tree.extend({name: [1] * (CONTEXT - len(PROMPT))})
    with pytest.raises(TreeFull):
        tree.extend({name: [1]})
    with pytest.raises(TreeFull):
        engine.tree([1] * (CONTEXT + 1), room=0)


def test_all_futures_together_may_pass_the_context(engine: Engine, model: Any) -> None:
    tree = engine.tree(PROMPT, room=10)
    for name in branches(tree, 6):
        logits = tree.extend({name: [name] * 30})[name]
        assert_close(logits, expected(model, [*PROMPT, *[name] * 30]))


def test_nothing_is_asked_for_nothing(engine: Engine) -> None:
    tree = engine.tree(PROMPT, room=10)
    assert tree.extend({}) == {}
    with pytest.raises(ValueError, match="at least one token"):
        tree.extend({tree.branch(): []})
    with pytest.raises(ValueError, match="at least one token"):
        engine.tree([], room=10)


def test_the_vocabulary_and_the_context_are_those_of_the_graph(engine: Engine) -> None:
    assert (engine.vocabulary_size, engine.context) == (SIZES["vocab_size"], CONTEXT)


def test_int8_stays_close_to_fp32_and_is_smaller(graph: Path, small_graph: Path) -> None:
    whole, rounded = (Engine(path).tree(PROMPT, room=60) for path in (graph, small_graph))
    names, _ = branches(whole, 5), branches(rounded, 5)
    for step in range(6):
        tokens = {name: [(name * 31 + step * 7) % 128] for name in names}
        wanted, got = whole.extend(tokens), rounded.extend(tokens)
        assert max(divergence(wanted[name], got[name]) for name in names) < 0.02
    assert small_graph.stat().st_size < graph.stat().st_size / 2
