"""The command `premortem-models`: makes the world model and proves it."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

BUILD = Path("build")


def main() -> None:
    parser = argparse.ArgumentParser("premortem-models", description=__doc__)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train", help="train a world model from scratch on the reference history")
    training.add_argument("--preset", default="mini", choices=["mini", "tiny"])
    training.add_argument("--out", type=Path, help="where the checkpoint goes (default: build/train/PRESET/checkpoint)")
    training.set_defaults(run=_train)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _train(arguments: argparse.Namespace) -> None:
    from models.training.presets import PRESETS
    from models.training.train import train

    work = BUILD / "train" / arguments.preset
    train(PRESETS[arguments.preset], work, arguments.out or work / "checkpoint", datetime.now(UTC).date().isoformat())


if __name__ == "__main__":
    main()
