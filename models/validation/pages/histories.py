"""The report on real histories: what each system foretold, beside a text baseline fitted in the same run."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.validation.pages.markdown import figure, share, table

Told = dict[str, Any]

SYSTEMS = ("baseline", "cases", "checkpoint", "both", "probe", "combined")
WORDS = {
    "baseline": "TF-IDF and logistic regression, fitted on the recorded part",
    "cases": "what followed in the nearest recorded cases (meaning and words together), no language model",
    "checkpoint": "the bundled weights as shipped, with the nearest recorded cases as precedents; calibrated on the recorded part",
    "both": "the two before, stacked",
    "probe": "a logistic regression on the words, codes, bands and sentence vectors of the recorded part",
    "combined": "cases, checkpoint and probe, stacked",
}


def page(histories: Sequence[Told], command: str, date: str, where: Told) -> Iterator[str]:
    yield "# Real histories: what was foretold, and what followed"
    yield ""
    yield "Each history is scored by itself: recorded cases and calibration from one part of its groups, scores on another, in turn. Figures are AUROC with the central 95 % of a"
    yield "bootstrap over groups; *above* and *below* the baseline are said only where the paired interval of the difference excludes zero. Nothing of these histories is kept here or"
    yield "taught to what is shipped. Neighbourhoods and the probe were chosen while looking at these very halves, so the figures are somewhat too good; only halves that were kept back can tell by how much. Resampling adds noise of its own to ECE, so its intervals lie a little high."
    yield ""
    for name in SYSTEMS:
        yield f"- **{name}**: {WORDS[name]}."
    yield ""
    rows = [
        (
            f"{history['history']['name'].split('.')[0]}: {name.replace('_', ' ')}",
            f"{asked['scored']} ({asked['adverse']})",
            *(_cell(asked["systems"][system]) for system in SYSTEMS),
        )
        for history in histories
        for name, asked in history["questions"].items()
    ]
    yield from table(("question", "n (adverse)", *SYSTEMS), rows)
    yield "\nOf the combined system, and where its errors fall (bias: mean of foretold less followed, against everyone's):\n"
    rows = [
        (
            f"{history['history']['name'].split('.')[0]}: {name.replace('_', ' ')}",
            figure(found["brier"]),
            figure(found["ece"]),
            share(found["missed_at_burden"]["0.3"]),
            f"{groups['worst_group']}, {groups['disparity']:.2f}" if groups.get("worst_group") else "none large enough",
        )
        for history in histories
        for name, asked in history["questions"].items()
        for found in [asked["systems"]["combined"]]
        for groups in [found["subgroups"]]
    ]
    yield from table(("question", "Brier", "ECE", "adverse missed when 30 % are reviewed", "worst group, bias"), rows)
    yield f"\nCommand: `{command}`; {date}; {where['processor']}, {where['cores']} cores. Checkpoint `{histories[0]['checkpoint']['files']['model.safetensors'][:16]}`."


def _cell(found: Told) -> str:
    verdict = f" **{found['verdict']}**" if found["verdict"] in ("above", "below") else ""
    return f"{found['auroc']['value']:.3f} ({found['auroc']['low']:.3f} to {found['auroc']['high']:.3f}){verdict}"
