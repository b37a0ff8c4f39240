"""The command `premortem-models`: makes the world model and proves it."""

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUILD = Path("build")
BUNDLED = Path("models") / "checkpoints" / "mini"
HISTORY = 3_000
"""Reference trajectories a domain in the recorded history, as the service indexes them by default."""
FINE_TUNED = "qwen2.5-7b"
SECTIONS = ("speed", "plain", "fidelity", "accuracy")
SHARES = {"speed": 15, "plain": 150, "fidelity": 0.75}
"""Of `--proposals` a domain, how many go into the other sections: 300 make 20, 2 and 400."""


def main() -> None:
    parser = argparse.ArgumentParser("premortem-models", description=__doc__)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser(
        "train", help="train a world model on the reference history, its parent first if there is none"
    )
    training.add_argument(
        "--preset", default="mini", choices=["mini", "mini-third", "mini-second", "mini-first", "tiny", FINE_TUNED]
    )
    training.add_argument("--out", type=Path, help="where the checkpoint goes (default: build/train/PRESET/checkpoint)")
    training.add_argument("--base", help=f"{FINE_TUNED}: the instruct model to fine-tune, a folder or a hub id")
    training.add_argument(
        "--history", type=Path, nargs="+", default=[], help=f"{FINE_TUNED}: recorded trajectories, JSONL"
    )
    training.add_argument(
        "--merge", action="store_true", help=f"{FINE_TUNED}: write whole weights too, as vLLM serves them"
    )
    training.set_defaults(run=_train)
    tuning = commands.add_parser("tune", help="measure what serving must know of a checkpoint, into its manifest")
    _measured(tuning)
    tuning.add_argument("--played", type=int, default=400, help="proposals a domain to play out ten futures of")
    tuning.add_argument("--recalled", type=int, default=600, help="proposals a domain to look up the nearest case of")
    tuning.set_defaults(run=_tune)
    bench = commands.add_parser("bench", help="how fast, how faithful, how accurate: build/bench.json")
    _measured(bench)
    bench.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {','.join(SECTIONS)}")
    bench.add_argument("--proposals", type=int, default=300, help="drawn proposals a domain; the rest goes by it")
    bench.add_argument("--busy", action="store_true", help="5 x 5 once more with both cores kept busy")
    bench.add_argument("--out", type=Path, default=BUILD / "bench.json")
    bench.set_defaults(run=_bench)
    judging = commands.add_parser(
        "validate", help="judge a checkpoint: report.json, REPORT.md and plots beside it; 1 if it may not serve"
    )
    _measured(judging)
    judging.add_argument("--scale", type=float, default=1.0, help="share of the report's own number of cases")
    judging.add_argument(
        "--only", default="", help="measure these sections anew, and keep the others of the last report"
    )
    judging.add_argument("--out", type=Path, help="where the report goes (default: beside the checkpoint)")
    judging.set_defaults(run=_validate)
    testing = commands.add_parser("backtest", help="what was foretold of a recorded history's cases, and what followed")
    testing.add_argument("--history", type=Path, nargs="+", required=True, help="JSON Lines, plain or .gz")
    testing.add_argument("--mapping", type=Path, help="how it reads (default: the shipped one that fits its name)")
    testing.add_argument("--anchors", type=Path, help="recorded cases from this file, and all of --history is scored")
    testing.add_argument("--checkpoint", type=Path, default=BUNDLED)
    testing.add_argument("--by", choices=["group", "time"], default="group", help="how a history is split by itself")
    testing.add_argument("--only", default="", help="questions of the mapping, by comma (default: all)")
    testing.add_argument("--out", type=Path, default=BUILD / "real", help="folder for HISTORY.json")
    testing.add_argument("--page", type=Path, help="write one page of all of them here")
    testing.set_defaults(run=_backtest)
    adopting = commands.add_parser("adopt", help="write the manifest of an instruct model that vLLM serves as it is")
    adopting.add_argument("folder", type=Path, help="its tokenizer.json and config.json")
    adopting.set_defaults(run=_adopt)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _measured(command: argparse.ArgumentParser) -> None:
    command.add_argument("--checkpoint", type=Path, default=BUNDLED)
    command.add_argument("--history", type=int, default=HISTORY, help="recorded trajectories a domain")


def _train(arguments: argparse.Namespace) -> None:
    from models.training.presets import PRESETS
    from models.training.train import train

    made = datetime.now(UTC).date().isoformat()
    if arguments.preset == FINE_TUNED:
        return _fine_tune(arguments, made)
    line = [PRESETS[arguments.preset]]
    while line[0].parent and not (_trained(line[0].parent) / "manifest.json").exists():
        line.insert(0, PRESETS[line[0].parent])
    for preset in line:
        out = _trained(preset.name) if preset is not line[-1] or not arguments.out else arguments.out
        train(preset, BUILD / "train" / preset.name, out, made)


def _fine_tune(arguments: argparse.Namespace, made: str) -> None:
    from models.training.lora import train
    from models.training.lora_presets import LORA_PRESETS
    from models.training.recorded import recorded
    from service.anchors.encoder import Encoder

    preset = LORA_PRESETS[arguments.preset]
    preset = replace(preset, base=arguments.base or preset.base)
    out = arguments.out or _trained(preset.name)
    work = BUILD / "train" / preset.name
    train(preset, Encoder(BUILD / "cache"), work, out, made, recorded(*arguments.history), arguments.merge)


def _trained(preset: str) -> Path:
    return BUILD / "train" / preset / "checkpoint"


def _tune(arguments: argparse.Namespace) -> None:
    from models.validation.tune import tune

    work = _work(arguments)
    told = tune(arguments.checkpoint, work, arguments.history, arguments.played, arguments.recalled)
    for domain, story in asyncio.run(told).items():
        print(f"{domain}: concentration {story.concentration:.2f}, familiar {story.familiar:.3f}")
    print(f"written into {arguments.checkpoint}/manifest.json")


def _validate(arguments: argparse.Namespace) -> None:
    from models.validation.report import write
    from models.validation.validate import SECTIONS, Request, validate

    out = arguments.out or arguments.checkpoint
    only = arguments.only.split(",") if arguments.only else list(SECTIONS)
    if not set(only) <= set(SECTIONS):
        raise SystemExit(f"--only takes some of {','.join(SECTIONS)}")
    before = json.loads((out / "report.json").read_text())["detail"] if set(only) != set(SECTIONS) else {}
    kept = {name: told for name, told in before.items() if name not in only}
    date, command = datetime.now(UTC).date().isoformat(), f"premortem-models {' '.join(sys.argv[1:])}"
    asked = Request(arguments.checkpoint, _work(arguments), arguments.history, arguments.scale, date, command)
    told = asyncio.run(validate(asked, kept))
    write(told, out)
    print(f"{out / 'REPORT.md'}: {'may serve' if told['gate']['may_serve'] else 'refused'}")
    raise SystemExit(0 if told["gate"]["may_serve"] else 1)


def _adopt(arguments: argparse.Namespace) -> None:
    from models.validation.machine import revision
    from service.domains import catalog
    from service.world.checkpoint import MANIFEST, NOTHING, TOKENIZER, DomainStory, Manifest, sha256
    from service.world.instruct import Instructed

    folder: Path = arguments.folder
    codec = Instructed((folder / TOKENIZER).read_text(), catalog().values()).fingerprint
    files = {name: sha256(folder / name) for name in (TOKENIZER, "config.json")}
    name, made = folder.resolve().name, datetime.now(UTC).date().isoformat()
    told = {"name": name, "codec": codec, "made": made, "revision": revision(), "data": {}, "files": files}
    unmeasured = dict.fromkeys(catalog(), DomainStory(familiar=NOTHING))
    story = Manifest.model_validate(told | {"arguments": {"form": "instructed"}, "domains": unmeasured})
    (folder / MANIFEST).write_text(story.model_dump_json(indent=2) + "\n")
    print(
        f"written to {folder / MANIFEST}: nothing is measured of it, so nothing is familiar to it and it approves nothing"
    )


def _backtest(arguments: argparse.Namespace) -> None:
    from models.validation.real import run

    date, command = datetime.now(UTC).date().isoformat(), f"premortem-models {' '.join(sys.argv[1:])}"
    run(arguments, date, command)


def _bench(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from models.validation.rig import prepare
    from models.validation.table import show

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

        return await fidelity.measure(checkpoint, work, max(1, round(count / SHARES[name])), arguments.history)
    from loadtest import accuracy

    return await accuracy.measure(checkpoint, work, arguments.history, count)


def _work(arguments: argparse.Namespace) -> Path:
    """Its recorded history is kept from run to run; one of another size lives apart."""
    return BUILD / "bench" / ("" if arguments.history == HISTORY else f"history-{arguments.history}")


if __name__ == "__main__":
    main()
