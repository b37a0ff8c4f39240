"""The backtest on anybody's history: what each system foretold of real cases, and what followed.

    premortem-models backtest --history FILE... [--mapping FILE] [--anchors FILE] [--page FILE]

Without anchors of its own, a history is its own: every fifth of its groups is scored by the other four (a large one, and one that
is split by time, is scored in part and once). Nothing of it is kept but sentence vectors under build/real.
"""

import argparse
import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from models.extraction.mapping import guess, load
from models.validation.histories.inquiry import Inquiry
from models.validation.histories.systems import NAMES
from models.validation.machine import machine
from models.validation.pages.histories import page
from service.world.checkpoint import Checkpoint
from service.world.local import LocalWorldModel

Told = dict[str, Any]

WORK = Path("build") / "real"
BUNDLED = Path("models") / "checkpoints" / "mini"


def run(arguments: argparse.Namespace, date: str, command: str) -> None:
    found = [_one(history, arguments) for history in arguments.history]
    if arguments.page is not None:
        arguments.page.write_text("\n".join(page(found, command, date, machine())) + "\n")
        print(f"written to {arguments.page}")


def _one(history: Path, arguments: argparse.Namespace) -> Told:
    mapping = arguments.mapping or guess(history)
    if mapping is None:
        raise SystemExit(f"no shipped mapping fits {history.name}: write one and name it with --mapping")
    only = tuple(arguments.only.split(",")) if arguments.only else ()
    asked = Backtest(history, mapping, arguments.checkpoint, arguments.anchors, arguments.by, only)
    found = asyncio.run(asked.measure())
    out = arguments.out / f"{history.name.split('.')[0]}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")
    show(found, Console(width=150))
    print(f"written to {out}")
    return found


@dataclass(frozen=True)
class Backtest:
    """What is measured of a history: every question of its mapping, or `only` these."""

    history: Path
    mapping: Path
    checkpoint: Path = BUNDLED
    anchors: Path | None = None
    by: str = "group"
    only: tuple[str, ...] = ()
    work: Path = WORK

    async def measure(self) -> Told:
        """Files and checkpoint are named with their hashes."""
        opened = Checkpoint(self.checkpoint)
        world = LocalWorldModel(opened)
        try:
            asked = {each.question.name: await each.answer(world) for each in self._inquiries()}
        finally:
            await world.aclose()
        return {
            "history": _named(self.history),
            "mapping": _named(self.mapping),
            "anchors": _named(self.anchors) if self.anchors else None,
            "checkpoint": {"name": opened.name, "files": opened.manifest.files},
            "split": "anchors" if self.anchors else self.by,
            "questions": asked,
        }

    def _inquiries(self) -> Iterator[Inquiry]:
        mapping = load(self.mapping)
        for question in mapping.questions:
            if not self.only or question.name in self.only:
                yield Inquiry(self.history, self.anchors, mapping, question, self.by, self.work)


def _named(path: Path) -> Told:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def show(found: Told, console: Console) -> None:
    for name, asked in found["questions"].items():
        for quality in asked["quality"]:
            _show_quality(quality, console)
        console.print(_table(f"{found['history']['name']}: {name}", asked))
        worst = asked["systems"]["combined"]["subgroups"]
        console.print(
            f"worst group of combined: {worst['worst_group'] or 'none large enough'} ({worst['disparity']:.3f})"
        )


def _show_quality(quality: Told, console: Console) -> None:
    console.print(
        f"{quality['cases']} cases in {quality['groups']} groups, {quality['adverse']} adverse, "
        f"{quality['repeated']} read like an earlier one ({quality['contradicting']} of them contradict it)"
    )
    for reason, count in quality["rejected"].items():
        console.print(f"  {count} without use, first line {quality['first_rejected'][reason]}: {reason}", markup=False)


def _table(title: str, asked: Told) -> Table:
    columns = (
        "system",
        "AUROC",
        "above the baseline",
        "",
        "avg. precision",
        "Brier",
        "ECE",
        "missed at 10 / 20 / 30 %",
    )
    table = Table(*columns, title=f"{title}, {asked['scored']} scored, {asked['adverse']} adverse")
    for name in NAMES:
        table.add_row(name, *_row(asked["systems"][name]))
    return table


def _row(system: Told) -> Iterator[str]:
    yield _spanned(system["auroc"])
    yield _spanned(system["above_baseline"], "+.3f")
    yield system["verdict"]
    for name in ("average_precision", "brier", "ece"):
        yield f"{system[name]['value']:.3f}"
    yield " / ".join(f"{each['value']:.2f}" for each in system["missed_at_burden"].values())


def _spanned(figure: Told, form: str = ".3f") -> str:
    return f"{figure['value']:{form}} ({figure['low']:{form}} to {figure['high']:{form}})"
