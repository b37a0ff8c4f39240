"""Pictures of risk, consistency and fairness, in the manner of `plots`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.validation.backtest import HARM_COSTS
from models.validation.estimator import COUNTING, HAZARD
from models.validation.pages.plots import Look, canvas, intervals, legend, save

Told = Mapping[str, Any]

LOOKS = (("o", "#0b5394"), ("s", "#b45f06"), ("^", "#38761d"), ("D", "#741b47"), ("v", "#666666"), ("x", "#000000"))


def looks(names: Sequence[str]) -> Mapping[str, Look]:
    return {name: Look(name, *LOOKS[place % len(LOOKS)]) for place, name in enumerate(names)}


def reliability(risk: Mapping[str, Told], path: Path) -> Path:
    """`risk`: by domain, as `models.validation.risk.measure` tells it."""
    title = "Does a risk of 0.3 mean three in ten?"
    drawn, panels = canvas(title, "foretold P(adverse), tenths of the proposals", "exact P(adverse)", len(risk))
    for axes, (name, told) in zip(panels, risk.items(), strict=True):
        for look in (Look("before calibration", "o", "#b45f06"), Look("after", "s", "#0b5394")):
            rows = told["backtest"]["reliability"][look.label.split()[0]]
            axes.plot(
                [row["foretold"] for row in rows], [row["exact"] for row in rows], marker=look.marker, color=look.colour,
                label=look.label, linewidth=1, markersize=4,
            )  # fmt: skip
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="as it should be")
        axes.set_title(name, fontsize=9)
    legend(drawn, panels[0])
    return save(drawn, path)


def ranking(risk: Mapping[str, Told], path: Path) -> Path:
    title = "Are the dangerous proposals told from the harmless ones?"
    drawn, (left, right) = canvas(title, "", "share of owed escalations caught; precision", 2)
    for name, look in looks(list(risk)).items():
        told = risk[name]["backtest"]
        every = max(1, len(told["roc"]["caught"]) // 12)
        style: Told = {"color": look.colour, "marker": look.marker, "markevery": every, "markersize": 4, "linewidth": 1}
        label = f"{name}, AUROC {told['auroc']['value']:.3f}"
        left.plot(told["roc"]["false_alarms"], told["roc"]["caught"], label=label, **style)
        right.plot(told["precision_recall"]["recall"], told["precision_recall"]["precision"], **style)
    left.set_xlabel("share of others escalated", fontsize=9)
    right.set_xlabel("share of owed escalations caught", fontsize=9)
    left.set_title("ROC", fontsize=9)
    right.set_title("precision and recall", fontsize=9)
    legend(drawn, left)
    return save(drawn, path)


def costs(risk: Mapping[str, Told], path: Path) -> Path:
    title = "What does a wrong approval have to cost before the guardrail pays?"
    drawn, panels = canvas(title, "approved harm costs, in reviews", "cost a proposal, in reviews", len(risk))
    series = {"default": "at the default threshold", "best": "at the best threshold", "exact": "with the exact risk",
              "approve_all": "approve everything", "review_all": "review everything"}  # fmt: skip
    for axes, (name, told) in zip(panels, risk.items(), strict=True):
        rows = told["backtest"]["cost"]
        for key, look in zip(series, looks(list(series.values())).values(), strict=True):
            axes.plot([row["harm"] for row in rows], [row[key] for row in rows], marker=look.marker, color=look.colour,
                      label=look.label, linewidth=1, markersize=4)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(HARM_COSTS, [f"{cost:g}" for cost in HARM_COSTS])
        axes.minorticks_off()
        axes.set_ylim(0, 2.5)
        axes.set_title(name, fontsize=9)
    legend(drawn, panels[0])
    return save(drawn, path)


def estimators(risk: Mapping[str, Told], path: Path) -> Path:
    title = "How many counted futures is one read by its hazards worth?"
    drawn, panels = canvas(title, "futures", "error against the model's own limit (RMS)", len(risk))
    for axes, (name, told) in zip(panels, risk.items(), strict=True):
        own = told["estimator"]["own_limit"]
        for kind, counts, look in (("hazard", HAZARD, Look("by hazard", "o", "#0b5394")),
                                   ("counting", COUNTING, Look("by counting", "s", "#b45f06"))):  # fmt: skip
            intervals(axes, counts, [own[f"{kind}_{count}"] for count in counts], look)
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 40, 80], ["1", "2", "5", "10", "20", "40", "80"])
        axes.minorticks_off()
        axes.set_title(name, fontsize=9)
    legend(drawn, panels[0])
    return save(drawn, path)


def fairness(risk: Mapping[str, Told], path: Path) -> Path:
    title = "On whom do the errors fall? Foretold less exact risk, against everyone's"
    drawn, panels = canvas(title, "", "bias of the group, in probability", len(risk))
    for axes, (name, told) in zip(panels, risk.items(), strict=True):
        groups = {
            f"{attribute}: {group}": found["bias"]
            for attribute, named in told["fairness"].items()
            if isinstance(named, dict) and attribute not in ("twins", "disparity_bias")
            for group, found in named.items()
        }
        intervals(axes, range(len(groups)), list(groups.values()), Look("group", "o", "#0b5394"))
        axes.axhline(0, color="#999999", linewidth=0.8)
        bound = told["fairness"]["bound"]
        for edge in (-bound, bound):
            axes.axhline(edge, color="#b45f06", linewidth=0.8, linestyle="--", label="bound" if edge > 0 else None)
        axes.set_xticks(range(len(groups)), list(groups), rotation=90)
        axes.set_title(name, fontsize=9)
    legend(drawn, panels[0])
    return save(drawn, path)


def consistency(told: Told, path: Path) -> Path:
    """`told`: as `models.validation.consistency.measure` tells it."""
    names = [name for name in told if name != "detectors"]
    title = "Do long futures hang together, with anchors and without?"
    drawn, panels = canvas(title, "turns", "share of turns without a violation", len(names))
    for axes, name in zip(panels, names, strict=True):
        bands = list(told[name]["by_band"]["anchored"])
        for shift, look in ((-0.07, Look("anchored", "o", "#0b5394")), (0.07, Look("unanchored", "s", "#b45f06"))):
            by = told[name]["by_band"][look.label]
            intervals(axes, [place + shift for place in range(len(bands))], [by[band] for band in bands], look)
        axes.set_xticks(range(len(bands)), bands)
        axes.set_title(name, fontsize=9)
    legend(drawn, panels[0])
    return save(drawn, path)
