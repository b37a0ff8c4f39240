"""Pictures of what was measured, each titled by the question it answers. Readable without colour: every series has its own marker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

Told = Mapping[str, Any]

DPI = 110
GAP = 0.14


@dataclass(frozen=True, slots=True)
class Look:
    """How one series is told from the others."""

    label: str
    marker: str
    colour: str


CHECKPOINT = Look("checkpoint", "o", "#0b5394")
CASES = Look("recorded cases", "s", "#b45f06")
FREQUENCIES = Look("frequencies by category and turn", "^", "#666666")
CEILING = Look("exact odds: no forecast can do better", "_", "#000000")


def canvas(title: str, xlabel: str, ylabel: str, panels: int = 1) -> tuple[Canvas, Sequence[Axes]]:
    """Panels side by side that share their vertical axis."""
    drawn = Canvas(figsize=(max(6.0, 3.1 * panels), 3.6), dpi=DPI, layout="constrained")
    axes = list(drawn.subplots(1, panels, sharey=True, squeeze=False)[0])
    drawn.suptitle(title, fontsize=11)
    axes[0].set_ylabel(ylabel, fontsize=9)
    for each in axes:
        each.set_xlabel(xlabel, fontsize=9)
        each.grid(axis="y", alpha=0.3)
        each.tick_params(labelsize=8)
    return drawn, axes


def intervals(axes: Axes, places: Sequence[float], figures: Sequence[Told | None], look: Look) -> None:
    """Points with their 95 % intervals; what was not measured is left out."""
    rows = [(place, each) for place, each in zip(places, figures, strict=True) if each]
    values = [each["value"] for _, each in rows]
    errors = [
        [each["value"] - each["low"] for _, each in rows],
        [each["high"] - each["value"] for _, each in rows],
    ]
    axes.errorbar(
        [place for place, _ in rows], values, yerr=errors, label=look.label, color=look.colour, marker=look.marker,
        markersize=10 if look.marker == "_" else 5, linestyle="none", capsize=2, linewidth=1,
    )  # fmt: skip


def legend(drawn: Canvas, *panels: Axes) -> None:
    """Under all panels; every series once."""
    known = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    drawn.legend(known.values(), known.keys(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def save(drawn: Canvas, path: Path) -> Path:
    """Without the date and the software, so that the same figures give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, metadata={"Software": None})
    return path


def fidelity_by_domain(fidelity: Told, path: Path) -> Path:
    """`fidelity` as `models.validation.fidelity.measure` tells it; on the right the first step, where a ceiling is known."""
    names = [name for name in fidelity if name != "overall"] + ["overall"]
    title = "Does the checkpoint foresee the next step better than counting does?"
    drawn, (every, first) = canvas(title, "", "fidelity: 1 − ranked probability score", 2)
    _series(every, names, {
        CHECKPOINT: [fidelity[name]["overall"] for name in names],
        CASES: [fidelity[name]["cases"] for name in names],
        FREQUENCIES: [fidelity[name]["frequencies"] for name in names],
    })  # fmt: skip
    _series(first, names, {
        CHECKPOINT: [fidelity[name]["first_step"] for name in names],
        FREQUENCIES: [fidelity[name]["frequencies_first_step"] for name in names],
        CEILING: [fidelity[name]["ceiling_first_step"] for name in names],
    })  # fmt: skip
    every.set_title("every step", fontsize=9)
    first.set_title("first step", fontsize=9)
    legend(drawn, every, first)
    return save(drawn, path)


def fidelity_by_turn(fidelity: Told, path: Path) -> Path:
    """One panel a domain."""
    names = [name for name in fidelity if name != "overall"]
    title = "Does foresight fade with the turns that have gone by?"
    drawn, panels = canvas(title, "turn of the recorded history", "fidelity: 1 − ranked probability score", len(names))
    for axes, name in zip(panels, names, strict=True):
        told = fidelity[name]
        turns = list(told["by_turn"])
        by = {CHECKPOINT: told, CASES: told["baselines"]["cases"], FREQUENCIES: told["baselines"]["frequencies"]}
        _series(axes, turns, {look: [each["by_turn"].get(turn) for turn in turns] for look, each in by.items()})
        axes.set_title(f"{name}, {told['overall']['n']} steps", fontsize=9)
    legend(drawn, panels[0])
    return save(drawn, path)


def _series(axes: Axes, names: Sequence[str], series: Mapping[Look, Sequence[Told | None]]) -> None:
    """Beside each other over each name, so that no interval hides another."""
    for number, (look, figures) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * GAP
        intervals(axes, [place + shift for place in range(len(names))], figures, look)
    axes.set_xticks(range(len(names)), names)
    axes.margins(x=0.08)
