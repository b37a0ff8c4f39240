"""The report on single steps."""

from collections.abc import Iterator
from typing import Any

from models.validation.pages.markdown import figure, picture, table

Told = dict[str, Any]


def fidelity(told: Told) -> Iterator[str]:
    fields = [name for name in told if name != "overall"]
    yield "\n## Fidelity: is the next step foreseen?\n"
    yield "At every step of histories it never saw, given the true past, the model gives odds for every outcome from the mildest to the worst. Fidelity is 1 less"
    yield "the ranked probability score of those odds. **It is easy to look good on this scale**: whoever merely counts what usually follows in a category"
    yield "scores high too. So read `skill`, the share of what counting leaves that the model gains, and compare the first step with its ceiling, the score"
    yield "of the exact odds that no forecast can beat. The article that gives 0.847 does not define its figure; the two cannot be compared."
    yield ""
    rows = [
        (
            name,
            *(
                figure(told[name][key])
                for key in ("overall", "cases", "frequencies", "skill", "first_step", "ceiling_first_step")
            ),
        )
        for name in (*fields, "overall")
    ]
    head = ("", "checkpoint", "recorded cases alone", "counting", "skill", "first step", "ceiling of the first step")
    yield from table(head, rows)
    yield picture("fidelity", "Fidelity by domain")
    yield from _scores(told, fields)
    yield from _splits(told, fields)
    yield from _categories(told, fields)
    yield picture("fidelity_by_turn", "Fidelity by turn")


def _scores(told: Told, fields: list[str]) -> Iterator[str]:
    keys = {
        "log_loss": "log loss", "brier": "Brier score", "rps": "ranked probability score", "outcome_match": "most likely outcome is the one that came",
        "changed_fields": "changed fields named (Jaccard)", "changed_values": "changed values (Jaccard)",
        "observation_similarity": "observation, cosine to the true one",
        "observation_similarity_same_outcome": "... of two true ones of the same outcome",
        "observation_similarity_random": "... of two true ones at random",
    }  # fmt: skip
    yield from table(
        ("", *fields), [(words, *(figure(told[name][key]) for name in fields)) for key, words in keys.items()]
    )
    yield "\nWhat is written follows a *sampled* outcome, as in serving, so it can match the true one only as often as the outcome does. Held-out outcome"
    log_loss = told[fields[0]].get("training_outcome_log_loss")
    yield (
        f"log loss at the end of training, over all domains: {log_loss:.3f}.\n"
        if log_loss
        else "log loss of training: not told.\n"
    )


def _splits(told: Told, fields: list[str]) -> Iterator[str]:
    names = {"time": "the last six months, recalling only what was recorded before", "unseen_wording": "wording never seen", "unseen_family": "kinds of case never seen"}  # fmt: skip
    rows = [
        (
            words,
            *(
                f"{figure(told[name]['splits'][key])}; skill {figure(told[name]['skill_by_split'][key])}"
                for name in fields
            ),
        )
        for key, words in names.items()
    ]
    yield from table(("other sources and times", *fields), rows)
    yield ""


def _categories(told: Told, fields: list[str]) -> Iterator[str]:
    yield "Worst categories: " + "; ".join(
        f"{name}: {told[name]['worst_category']['name']} {figure(told[name]['worst_category'])}, {told[name]['worst_category']['n']} steps"
        for name in fields
        if told[name]["worst_category"]
    ) + "."  # fmt: skip
