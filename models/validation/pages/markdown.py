"""The few shapes a report is written in."""

from collections.abc import Iterator, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def figure(told: Any) -> str:
    """A value with its interval, or the value alone; a dash if it was not measured."""
    if told is None:
        return "-"
    if not isinstance(told, dict):
        return f"{told:g}"
    if told["value"] != told["value"]:
        return "-"
    return f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})"


def share(told: dict[str, float]) -> str:
    return f"{100 * told['value']:.0f} % ({100 * told['low']:.0f} to {100 * told['high']:.0f})"


def picture(name: str, shows: str) -> str:
    return f"\n![{shows}](plots/{name}.png)\n"
