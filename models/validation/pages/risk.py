"""The report on risk: ranking, calibration, the estimator, settling, fairness."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.validation.pages.markdown import figure, picture, share, table

Told = dict[str, Any]


def ranking(risk: Told) -> Iterator[str]:
    fields = list(risk)
    yield "\n## Are the dangerous proposals told from the harmless ones?\n"
    yield "*Owed* is an escalation wherever the exact risk lies above the domain's threshold. What *followed* is one draw of the dice: even the exact risk"
    yield "ranks it imperfectly, which is the ceiling."
    yield ""
    keys = {
        "n": "proposals", "owed_escalations": "escalations owed", "auroc": "AUROC, verdict owed", "average_precision": "average precision, verdict owed",
        "auroc_followed": "AUROC, what followed", "auroc_followed_ceiling": "... its ceiling", "mean_error": "mean error of the risk",
    }  # fmt: skip
    rows = [(words, *(figure(risk[name]["backtest"][key]) for name in fields)) for key, words in keys.items()]
    yield from table(("", *fields), [*rows, *_unseen(risk, fields)])
    yield picture("ranking", "ROC and precision-recall")
    yield "If only the riskiest share can be reviewed, this share of all harm is approved:\n"
    burdens = list(risk[fields[0]]["backtest"]["missed_at_burden"])
    yield from table(
        ("reviewed", *fields),
        [
            (f"{100 * float(b):.0f} %", *(share(risk[name]["backtest"]["missed_at_burden"][b]) for name in fields))
            for b in burdens
        ],
    )
    yield picture("costs", "Cost by what a wrong approval costs")


def _unseen(risk: Told, fields: Sequence[str]) -> Iterator[Sequence[str]]:
    for split, words in (("unseen_wording", "wording never seen"), ("unseen_family", "kinds of case never seen")):
        for key, what in (("auroc", "AUROC, verdict owed"), ("mean_error", "mean error")):
            yield (f"{words}: {what}", *(figure(risk[name]["unseen"][split][key]) for name in fields))


def calibration(risk: Told) -> Iterator[str]:
    fields = list(risk)
    yield "\n## Does a risk of 0.3 mean three in ten?\n"
    keys = {
        "ece_before": "calibration error (ECE) before the map, against exact risk", "ece_after": "... after the map",
        "ece_after_followed": "... after the map, against what followed",
        "ece_followed_of_exact": "... of the exact risk itself against what followed: the noise of so many cases",
        "coverage": "exact risks inside the model's own 90 % interval (`model_interval`)",
        "noise_coverage": "... inside that of the futures' noise alone (`interval`)",
    }  # fmt: skip
    yield from table(
        ("", *fields),
        [(words, *(figure(risk[name]["backtest"][key]) for name in fields)) for key, words in keys.items()],
    )
    yield picture("reliability", "Reliability by domain")
    yield "Resampling adds noise of its own to a calibration error, so its intervals lie a little high.\n"
    yield "The map was fitted on part `valid` alone and lies in the manifest. Thresholds with a promise (conformal risk control: at most this share of adverse cases"
    yield "like these is approved, on average over such fits) beside the domain's own. Harm strikes low risks too, so a small promise costs many reviews:\n"
    rows = [
        (
            name,
            "the domain's own" if row["promised"] is None else f"at most {100 * row['promised']:g} % missed",
            f"{row['threshold']:.3f}",
            share(row["missed"]),
            share(row["escalated"]),
        )
        for name in fields
        for row in risk[name]["calibration"]["thresholds"]
    ]
    yield from table(("", "promise", "threshold", "adverse that were approved", "proposals escalated"), rows)


def estimator(risk: Told, concentration: Told) -> Iterator[str]:
    fields = list(risk)
    yield "\n## What is a future worth?\n"
    yield "Root mean square error against the exact risk (the model's own error included), and after `own` against what the same model says with 80 futures"
    yield "(the estimator's own). Uncalibrated."
    yield ""
    names = [key for key in risk[fields[0]]["estimator"] if key not in ("own_limit", "gap")]
    rows = [
        (
            key.replace("hazard_", "by hazard, futures: ").replace("counting_", "by counting, futures: "),
            *(
                f"{figure(risk[name]['estimator'][key])}; own {figure(risk[name]['estimator']['own_limit'][key])}"
                for name in fields
            ),
        )
        for key in names
    ]
    gaps = ("counting 40 less hazard 5, against exact", *(figure(risk[name]["estimator"]["gap"]) for name in fields))
    own = (
        "... against the model's own limit",
        *(figure(risk[name]["estimator"]["own_limit"].get("gap")) for name in fields),
    )
    yield from table(("", *fields), [*rows, gaps, own])
    yield picture("estimators", "Error by number of futures")
    yield "Concentration c (a future is worth c + 1 counted ones where q ~ Beta(pc, (1-p)c); by the jackknife on `valid`): " + ", ".join(
        f"{name} {value:.0f}" for name, value in concentration.items()
    ) + "."  # fmt: skip


def settling(risk: Told) -> Iterator[str]:
    fields = list(risk)
    yield "\n## What settling early changes, and what the settings do\n"
    keys = {"n": "proposals", "verdict_flips": "verdicts flipped", "risk_shift": "mean shift of the reported risk", "saved": "share of tokens saved"}  # fmt: skip
    yield from table(
        ("", *fields),
        [(words, *(figure(risk[name]["settling"][key]) for name in fields)) for key, words in keys.items()],
    )
    yield ""
    rows = [
        (setting, *map(_sensitivity, (risk[name]["sensitivity"][setting] for name in fields)))
        for setting in risk[fields[0]]["sensitivity"]
    ]
    yield from table(("rank correlation; mean error; mean shift from as served", *fields), rows)


def _sensitivity(found: Told) -> str:
    return f"{found['spearman']:.2f}; {figure(found['mean_error'])}; {figure(found['shift'])}"


def fairness(risk: Told) -> Iterator[str]:
    rows: list[Sequence[str]]
    yield "\n## On whom do the errors fall?\n"
    yield "Bias: a group's mean of foretold less exact risk, less everyone's. Below zero its dangers are underrated more than others'. Groups under 30 proposals"
    yield "are shown and not judged.\n"
    rows = [
        (f"{name}, {attribute}: {group}", str(found["n"]), figure(found["bias"]), figure(found["mean_error"]), figure(found["ece"]),
         f"{found['missed']['count']} of {found['missed']['of']}")
        for name, told in risk.items()
        for attribute, groups in told["fairness"].items()
        if isinstance(groups, dict) and attribute not in ("twins", "disparity_bias")
        for group, found in groups.items()
    ]  # fmt: skip
    yield from table(("group", "n", "bias", "mean error", "ECE", "owed but approved"), rows)
    yield picture("fairness", "Bias by group")
    for name, told in risk.items():
        fair = told["fairness"]
        yield f"- {name}: worst group {fair['worst_group']}, disparity {fair['disparity']:.3f} (bound {fair['bound']:g})."
    yield "\nThe same case told of someone else, mean shift of the risk:\n"
    rows = [
        (name, twin, figure(shift))
        for name, told in risk.items()
        for twin, shift in told["fairness"]["twins"].items()
        if twin != "worst"
    ]
    yield from table(("", "told of", "shift"), rows)
