"""The command `premortem-models`: makes the world model and proves it."""

import argparse
import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUILD = Path("build")
BUNDLED = Path("models") / "checkpoints" / "mini"
HISTORY = 3_000
"""Reference trajectories a domain in the recorded history, as the service indexes them by default."""
SECTIONS = ("speed", "plain", "fidelity", "accuracy")
SHARES = {"speed": 15, "plain": 150, "fidelity": 0.75}
"""Of `--proposals` a domain, how many go into the other sections: 300 make 20, 2 and 400."""


def main() -> None:
    parser = argparse.ArgumentParser("premortem-models", description=__doc__)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser(
        "train", help="train a world model on the reference history, its parent first if there is none"
    )
    training.add_argument("--preset", default="mini", choices=["mini", "mini-first", "tiny"])
    training.add_argument("--out", type=Path, help="where the checkpoint goes (default: build/train/PRESET/checkpoint)")
    training.set_defaults(run=_train)
    tuning = commands.add_parser("tune", help="measure what serving must know of a checkpoint, into its manifest")
    _measured(tuning)
    tuning.add_argument("--played", type=int, default=120, help="proposals a domain to play out ten futures of")
    tuning.add_argument("--recalled", type=int, default=600, help="proposals a domain to look up the nearest case of")
    tuning.set_defaults(run=_tune)
    bench = commands.add_parser("bench", help="how fast, how faithful, how accurate: build/bench.json")
    _measured(bench)
    bench.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {','.join(SECTIONS)}")
    bench.add_argument("--proposals", type=int, default=300, help="drawn proposals a domain; the rest goes by it")
    bench.add_argument("--busy", action="store_true", help="5 x 5 once more with both cores kept busy")
    bench.add_argument("--out", type=Path, default=BUILD / "bench.json")
    bench.set_defaults(run=_bench)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _measured(command: argparse.ArgumentParser) -> None:
    command.add_argument("--checkpoint", type=Path, default=BUNDLED)
    command.add_argument("--history", type=int, default=HISTORY, help="recorded trajectories a domain")


def _train(arguments: argparse.Namespace) -> None:
    from models.training.presets import PRESETS
    from models.training.train import train

    made = datetime.now(UTC).date().isoformat()
    preset, out = PRESETS[arguments.preset], arguments.out
    parent = BUILD / "train" / preset.parent / "checkpoint"
    if preset.parent and not (parent / "manifest.json").exists():
        train(PRESETS[preset.parent], parent.parent, parent, made)
    work = BUILD / "train" / preset.name
    train(preset, work, out or work / "checkpoint", made)


def _tune(arguments: argparse.Namespace) -> None:
    from models.validation.tune import tune

    work = _work(arguments)
    told = tune(arguments.checkpoint, work, arguments.history, arguments.played, arguments.recalled)
    for domain, story in asyncio.run(told).items():
        print(f"{domain}: concentration {story.concentration:.2f}, familiar {story.familiar:.3f}")
    print(f"written into {arguments.checkpoint}/manifest.json")


def _bench(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from models.validation.report import show
    from models.validation.rig import prepare

    only = arguments.only.split(",")
    if not set(only) <= set(SECTIONS):
        raise SystemExit(f"--only takes some of {','.join(SECTIONS)}")
    told = _head(arguments)
    asyncio.run(prepare(_work(arguments), arguments.history))
    for section in (name for name in SECTIONS if name in only):
        told |= asyncio.run(_section(section, arguments))
        told["measured"][section] = {name: told[name] for name in ("date", "revision")}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    show(told, Console(width=140))
    print(f"written to {arguments.out}")


def _head(arguments: argparse.Namespace) -> dict[str, Any]:
    """Whose bench it is; sections that were not asked for are kept if they are of the very same checkpoint."""
    from models.validation.machine import machine, revision
    from service.world.checkpoint import Checkpoint

    opened = Checkpoint(arguments.checkpoint).manifest
    checkpoint = {"name": opened.name, "made": opened.made, "files": opened.files}
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    date = datetime.now(UTC).isoformat(timespec="minutes")
    head = {"date": date, "revision": revision(), "machine": machine(), "checkpoint": checkpoint}
    return {"measured": {}} | (kept if kept.get("checkpoint") == checkpoint else {}) | head


async def _section(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    work, checkpoint, count = _work(arguments), arguments.checkpoint, arguments.proposals
    if name == "speed":
        from models.validation import speed

        return dict(await speed.measure(checkpoint, work, max(1, round(count / SHARES[name])), arguments.busy))
    if name == "plain":
        from models.validation import plain_loop

        return await plain_loop.measure(checkpoint, work, max(1, round(count / SHARES[name])))
    if name == "fidelity":
        from models.validation import fidelity

        return await fidelity.measure(checkpoint, work, max(1, round(count / SHARES[name])))
    from loadtest import accuracy

    return await accuracy.measure(checkpoint, work, arguments.history, count)


def _work(arguments: argparse.Namespace) -> Path:
    """Its recorded history is kept from run to run; one of another size lives apart."""
    return BUILD / "bench" / ("" if arguments.history == HISTORY else f"history-{arguments.history}")


if __name__ == "__main__":
    main()
