"""The report on long futures."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.validation.pages.markdown import figure, picture, table

Told = dict[str, Any]


def consistency(told: Told) -> Iterator[str]:
    fields = [name for name in told if name not in ("overall", "detectors")]
    yield "\n## Consistency: does a long future hang together?\n"
    yield "Twenty turns ahead by the simulator that serves, with prose. Consistency is the share of turns that no detector objects to. Half of the futures end"
    yield "when they end; the other half is drawn on the condition that it lasts, or few would reach the last turns."
    yield ""
    keys = {"anchored": "anchored (as served)", "unanchored": "unanchored", "anchored_turns_16_20": "anchored, turns 16-20",
            "unanchored_turns_16_20": "unanchored, turns 16-20"}  # fmt: skip
    everyone = (*fields, "overall")
    yield from table(
        ("", *everyone), [(words, *(figure(told[name][key]) for name in everyone)) for key, words in keys.items()]
    )
    yield picture("consistency", "Consistency by turn band")
    rows: list[Sequence[str]]
    overall = told["overall"]["by_interval"]
    rows = [
        (interval, figure(arm["turns"]), figure(arm["turns_16_20"]), figure(arm["rollouts"]), figure(arm["grounded"]), figure(arm["faults"]),
         ", ".join(f"{band}: {count}" for band, count in arm["reached"].items()))
        for interval, arm in overall.items()
    ]  # fmt: skip
    yield from table(
        (
            "anchors every",
            "turns sound",
            "turns 16-20",
            "futures sound throughout",
            "grounded when due",
            "faults",
            "futures that reach",
        ),
        rows,
    )
    yield ""
    kinds = sorted({kind for arm in told["overall"]["by_kind"].values() for kind in arm})
    by = told["overall"]["by_kind"]
    rows = [
        (kind, *(figure(by[arm].get(kind, {}).get("turns")) for arm in ("anchored", "unanchored"))) for kind in kinds
    ]
    yield from table(("violation, share of turns", "anchored", "unanchored"), rows)
    yield "\nThe detectors themselves, on clean recorded histories (precision) and on violations planted in them (recall). Those that read text know the made history's"
    yield "words; *in other words* is their recall of faults worded as the history never words them. So they can judge a model that speaks as it was taught, and no other:\n"
    rows = [
        (
            name,
            kind,
            figure(found["precision"]),
            figure(found["recall"]),
            figure(found["recall_other_words"]),
            f"{found['n']}",
        )
        for name, kinds_found in told["detectors"].items()
        for kind, found in kinds_found.items()
    ]
    yield from table(("", "violation", "precision", "recall", "in other words", "planted"), rows)
