"""The command `premortem`."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.anchors.bank import AnchorBankUnavailable
from service.api.callers import BadKeys, Keys, Role
from service.server import NotStarted, serve
from service.settings import Settings
from service.world.checkpoint import BadCheckpoint


def main() -> None:
    parser = argparse.ArgumentParser("premortem", description="Ask before you act: what happens if I do this?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("serve", help="start the service (settings: PREMORTEM_*)").set_defaults(run=_serve)
    commands.add_parser("demo", help="start the service and put the worked cases to it").set_defaults(run=_demo)
    keys = commands.add_parser("keys", help="make a key; it is shown once")
    keys.add_argument("name")
    keys.add_argument("role", type=Role, choices=list(Role))
    keys.set_defaults(run=_key)
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        sys.exit(run(arguments))
    except KeyboardInterrupt:
        sys.exit(130)
    except ValidationError as error:
        sys.exit(f"premortem: {'; '.join(_setting(each) for each in error.errors())}")
    except (AnchorBankUnavailable, BadCheckpoint, BadKeys, NotStarted, OSError) as error:
        sys.exit(f"premortem: {' '.join(str(error).split())}")


def _setting(error: ErrorDetails) -> str:
    name = "_".join(str(part) for part in error["loc"])
    return f"PREMORTEM_{name.upper()}: {error['msg']}" if name else error["msg"].removeprefix("Value error, ")


def _serve(_: argparse.Namespace) -> int:
    asyncio.run(serve(Settings()))
    return 0


def _demo(_: argparse.Namespace) -> int:
    from service.demo import demo

    return asyncio.run(demo(Path("build/demo")))


def _key(arguments: argparse.Namespace) -> int:
    print(Keys(Settings().data / "keys.json").make(arguments.name, arguments.role))
    return 0


if __name__ == "__main__":
    main()
