"""How a checkpoint is trained: one preset, every number that matters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes in tokens unless said; `label_weight` and `told_weight` are against 1 for a token of changes or prose."""

    name: str
    vocabulary: int = 4096
    hidden: int = 384
    intermediate: int = 1024
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 2048
    bundled: int = 3_000
    """Trajectories a domain in the bundled history: the anchors."""
    trajectories: int = 50_000
    """Trajectories a domain to learn from; none of them is an anchor."""
    longest: int = 512
    batch: int = 4_096
    epochs: float = 0.8
    rate: float = 1.2e-3
    warmup: float = 0.03
    decay: float = 0.05
    label_weight: float = 16.0
    told_weight: float = 0.05
    seed: int = 17
    focus: str = ""
    """Domains, by commas, that get `focus_times` as many trajectories, being harder to read."""
    focus_times: int = 3
    long_share: float = 0.0
    long_horizon: int = 20
    """A share of the trajectories is drawn so many steps long instead of the policy's horizon, so that long futures are known too."""
    asides: float = 0.0
    """A share of the examples is told one more remark that bears on nothing."""
    odds: bool = False
    """Outcomes are taught by the odds they were drawn from, where the made history knows them, and not by the draw alone."""
    part: str = "train"
    """Which part of the reference history is learnt from."""
    parent: str = ""
    """The preset whose checkpoint it goes on from; empty: from scratch."""


PRESETS = {
    "mini-first": Preset("mini-first"),
    "mini-second": Preset(
        "mini-second",
        trajectories=12_000,
        focus="triage",
        epochs=1.0,
        rate=8e-4,
        seed=18,
        part="more",
        parent="mini-first",
    ),
    "mini-third": Preset(
        "mini-third",
        trajectories=16_000,
        focus="helpdesk,triage",
        longest=768,
        epochs=1.0,
        rate=1e-3,
        seed=19,
        part="third",
        long_share=0.3,
        odds=True,
        parent="mini-second",
    ),
    "mini": Preset(
        "mini",
        trajectories=6_000,
        focus="helpdesk,triage",
        longest=768,
        epochs=1.0,
        rate=6e-4,
        seed=20,
        part="fourth",
        long_share=0.3,
        asides=0.3,
        odds=True,
        parent="mini-third",
    ),
    "tiny": Preset("tiny", 1024, 64, 128, 2, 2, 1, 32, bundled=60, trajectories=150, batch=2_048),
}
"""`mini` is the bundled checkpoint; it goes on from `mini-third`, that from `mini-second` and `mini-first`, each with fresh history;
`tiny` shows in a minute that every stage runs, and knows nothing."""
