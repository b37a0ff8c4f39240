"""The fault matrix: every part the service depends on, in every way it can fail, before one caller and before many.

    python -m loadtest.faults               # all rows; those of vLLM where its CPU build is installed
    python -m loadtest.faults --parts qdrant redis

The service is a process of its own on a real socket. Between it and a real redis-server, a real vLLM on the CPU, and a stand-in
for Qdrant (none can be had here: `loadtest/faults/stand_in.py`) stands a proxy that goes wrong on demand; SQLite lies on a small disk of
its own. What is owed is DESIGN.md section 6, as `loadtest/faults/owed.py` reads it. A reply's overrun is its time as its caller sees it,
connection and last byte included, less the budget it came with; how late the measuring process itself woke up is told beside it.
Prints a table, writes build/faults.json; exit status 1 if anything is not as it is owed.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest import engine
from loadtest.faults import redis_process
from loadtest.faults.cell import Lateness, Row, quantile
from loadtest.faults.clock_cells import clock_rows
from loadtest.faults.disk_cells import disk_rows
from loadtest.faults.neighbours import ahead
from loadtest.faults.network_cells import qdrant_part, redis_part, vllm_part
from loadtest.faults.owed import UNEVIDENCED
from models.validation.machine import machine, revision
from service.settings import Settings

PARTS = ("qdrant", "redis", "sqlite", "clock", "vllm")
LATE_MS = 50.0
"""No more than this beyond the deadline, for 99 of 100 replies."""
STAND_INS = "Qdrant: a REST stand-in over Qdrant Edge, its engine in process; no server can be had here"


async def matrix(parts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Runs them one after another; what came of it, as it is written down."""
    rows, lateness = list[Row](), Lateness()
    with ahead() as niceness:
        watch = asyncio.create_task(lateness.watch())
        for part in parts:
            rows += await rows_of(part, folder)
        watch.cancel()
    return {"niceness": niceness} | summary(rows, sorted(lateness.late))


async def rows_of(part: str, folder: Path) -> list[Row]:
    """All parts share a data folder, so that recorded history is encoded once."""
    data = folder / "data"
    if part == "qdrant":
        async with qdrant_part(folder / "qdrant") as qdrant:
            return await qdrant.rows(data)
    if part == "redis":
        async with redis_part(folder / "redis") as redis:
            return await redis.rows(data)
    if part == "vllm":
        async with engine.serving(Settings().checkpoint, folder / "vllm.log") as served, vllm_part(served) as vllm:
            return await vllm.rows(data)
    return await (disk_rows if part == "sqlite" else clock_rows)(data)


def summary(rows: Sequence[Row], late: Sequence[float]) -> dict[str, Any]:
    """Overruns over all replies of all cells."""
    overruns = sorted(reply.overrun_ms for row in rows for reply in row.replies)
    return {
        "cells": len(rows),
        "requests": len(overruns),
        "violations": sum(bool(row.wrong) for row in rows),
        "approvals": sum(reply.approved for row in rows for reply in row.replies),
        "approvals_without_evidence": sum(UNEVIDENCED in wrong for row in rows for wrong in row.wrong),
        "deadline_overrun_p99_ms": round(quantile(overruns, 0.99), 1),
        "deadline_overrun_max_ms": round(quantile(overruns, 1.0), 1),
        "measured_with_p99_lateness_ms": round(quantile(late, 0.99), 1),
        "stand_ins": STAND_INS,
        "machine": machine(),
        "revision": revision(),
        "rows": [row.told() for row in rows],
    }


def table(told: dict[str, Any]) -> Table:
    drawn = Table(
        "part", "fault", "who", "answers", "max ms", "late ms", "back s", "others", "not as owed", title="fault matrix"
    )
    for row in told["rows"]:
        answers = ", ".join(f"{count} {answer}" for answer, count in row["answers"].items())
        times = (f"{row[name]:g}" for name in ("took_max_ms", "overrun_max_ms", "recovered_s", "neighbours"))
        drawn.add_row(row["part"], row["fault"], row["who"], answers, *times, "; ".join(sorted(set(row["wrong"]))))
    return drawn


def kept_promise(told: dict[str, Any]) -> bool:
    return not told["violations"] and told["deadline_overrun_p99_ms"] <= LATE_MS


def able(part: str) -> bool:
    """Whether what a part needs is installed here."""
    return {"redis": redis_process.installed, "vllm": engine.installed}.get(part, lambda: True)()


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.faults", description="every part, every fault")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[part for part in PARTS if able(part)])
    parser.add_argument("--out", type=Path, default=Path("build/faults.json"))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        told = asyncio.run(matrix(arguments.parts, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    Console(width=200).print(table(told))
    print(json.dumps({name: value for name, value in told.items() if name != "rows"}))
    raise SystemExit(not kept_promise(told))
