"""The command `premortem`."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.anchors.bank import AnchorBankUnavailable
from service.api.callers import Role
from service.api.keys import BadKeys, Key, Keys
from service.app import system_chance
from service.decisions.audit import export, verify_file
from service.decisions.canonical import NotCanonical, read
from service.decisions.chain import Broken, Checkpoint, Sealer
from service.decisions.permit import Expected, PermitRefused, bind, verify
from service.decisions.signing import BadSigningKeys, PublicKeys
from service.domains import catalog
from service.errors import LedgerUnavailable
from service.house import open_ledger, open_vault, signing_keys
from service.manual import manual
from service.policies import BadPolicies, Policies
from service.server import NotStarted, serve
from service.settings import Settings
from service.vocabulary.proposal import HOUSE, Action
from service.world.checkpoint import BadCheckpoint


def main() -> None:
    parser = argparse.ArgumentParser("premortem", description="Ask before you act: what happens if I do this?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("serve", help="start the service (settings: PREMORTEM_*)").set_defaults(run=_serve)
    commands.add_parser("demo", help="start the service and put the worked cases to it").set_defaults(run=_demo)
    commands.add_parser("settings", help="every setting, as a page in Markdown").set_defaults(run=_settings)
    _keys(commands.add_parser("keys", help="who may ask, rule, report, switch and read; a key is shown once"))
    audit = commands.add_parser("audit", help="what was decided, in a file that shows if it was touched")
    actions = audit.add_subparsers(required=True, metavar="ACTION")
    exporting = actions.add_parser("export", help="every event a line, and a signed checkpoint")
    exporting.add_argument("--out", type=Path, help="a file; none: the output")
    exporting.set_defaults(run=_export)
    verifying = actions.add_parser(
        "verify", help="an export, without the ledger: 0 as it was written, 1 broken, and where"
    )
    verifying.add_argument("file", type=Path)
    verifying.add_argument(
        "--key", action="append", default=[], help="a public key (64 hex digits) that may have signed"
    )
    verifying.add_argument("--since", type=Path, help="an export made before, which this one must contain")
    verifying.set_defaults(run=_verify)
    permits = commands.add_parser("permit", help="check a permit, or make a new signing key")
    permit = permits.add_subparsers(required=True, metavar="COMMAND")
    check = permit.add_parser("verify", help="everything that an executor checks, but single use")
    check.add_argument("token")
    for name in ("action", "state"):
        check.add_argument(f"--{name}", type=Path, required=True, help=f"a file: the {name} as JSON")
    for name in ("domain", "agent"):
        check.add_argument(f"--{name}", required=True)
    check.add_argument("--jwks", type=Path, help="a file: /.well-known/jwks.json as it was; without it, the keys here")
    check.set_defaults(run=_check)
    rotate = permit.add_parser("rotate", help="a new key signs from now on, in running services too")
    rotate.set_defaults(run=_rotate)
    policies = commands.add_parser("policies", help="what the domains tolerate, in an operator's files")
    checking = policies.add_subparsers(required=True, metavar="ACTION").add_parser(
        "check", help="every domain's policy as it would be in force, or why the files are refused"
    )
    checking.add_argument("folder", type=Path)
    checking.set_defaults(run=_policies)
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        sys.exit(run(arguments))
    except KeyboardInterrupt:
        sys.exit(130)
    except ValidationError as error:
        sys.exit(f"premortem: {'; '.join(_setting(each) for each in error.errors())}")
    except (
        *(AnchorBankUnavailable, BadCheckpoint, BadKeys, BadPolicies, BadSigningKeys, LedgerUnavailable, NotStarted),
        *(OSError, ValueError),
    ) as error:
        sys.exit(f"premortem: {' '.join(str(error).split())}")


def _keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    making = actions.add_parser("make", help="a new key")
    making.add_argument("name")
    making.add_argument("role", type=Role, choices=list(Role))
    making.add_argument("--tenant", default=HOUSE, help="whose it is; default: %(default)s")
    making.add_argument("--domain", action="append", default=[], help="good for this domain only; may be repeated")
    making.add_argument("--tokens-per-minute", type=int, help="how many simulated tokens it may spend")
    making.set_defaults(run=_make)
    rotating = actions.add_parser("rotate", help="a new key in another's place, which stays good for a while")
    rotating.add_argument("name")
    rotating.add_argument("--overlap-h", type=float, default=24.0, help="hours; default: %(default)s")
    rotating.set_defaults(run=_rotate_key)
    revoking = actions.add_parser("revoke", help="nobody's from now on, in running services too")
    revoking.add_argument("name")
    revoking.set_defaults(run=_revoke)
    actions.add_parser("list", help="what is kept of each: never the key").set_defaults(run=_list)


def _setting(error: ErrorDetails) -> str:
    name = "_".join(str(part) for part in error["loc"])
    return f"PREMORTEM_{name.upper()}: {error['msg']}" if name else error["msg"].removeprefix("Value error, ")


def _serve(_: argparse.Namespace) -> int:
    asyncio.run(serve(Settings()))
    return 0


def _demo(_: argparse.Namespace) -> int:
    from service.demo import demo

    return asyncio.run(demo(Path("build/demo")))


def _settings(_: argparse.Namespace) -> int:
    print(manual({name: domain.policy for name, domain in catalog().items()}), end="")
    return 0


def _kept() -> Keys:
    return Keys(Settings().data / "keys.json", system_chance().now)


def _make(arguments: argparse.Namespace) -> int:
    key = Key(
        name=arguments.name,
        role=arguments.role,
        tenant=arguments.tenant,
        domains=frozenset(arguments.domain),
        tokens_per_minute=arguments.tokens_per_minute,
    )
    print(_kept().make(key))
    return 0


def _rotate_key(arguments: argparse.Namespace) -> int:
    print(_kept().rotate(arguments.name, timedelta(hours=arguments.overlap_h)))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    _kept().revoke(arguments.name)
    return 0


def _list(_: argparse.Namespace) -> int:
    for key in _kept().all():
        print(key.model_dump_json(exclude_defaults=True))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    out: Path | None = arguments.out
    with out.open("wb") if out else nullcontext(sys.stdout.buffer) as file:
        return _told(asyncio.run(_exported(Settings(), file.write)))


async def _exported(settings: Settings, write: Callable[[bytes], object]) -> Checkpoint | Broken:
    ring = signing_keys(settings, system_chance().now())
    ledger = open_ledger(settings, ring, open_vault(settings))
    try:
        return await export(ledger, Sealer(ring.newest().private), system_chance().now(), write)
    finally:
        await ledger.aclose()


def _verify(arguments: argparse.Namespace) -> int:
    return _told(verify_file(arguments.file, arguments.key, arguments.since))


def _told(ended: Checkpoint | Broken) -> int:
    if isinstance(ended, Broken):
        print(f"broken at event {ended.seq}: {ended.why}", file=sys.stderr)
        return 1
    print(f"{ended.seq} events, sealed {ended.at.isoformat()} with key {ended.key}", file=sys.stderr)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    settings, now = Settings(), system_chance().now()
    try:
        jwks = arguments.jwks and PublicKeys.model_validate_json(arguments.jwks.read_bytes())
        action = Action.model_validate(read(arguments.action.read_bytes()))
        bound = bind(arguments.agent, action, read(arguments.state.read_bytes()))
        due = Expected(settings.permit_issuer, settings.permit_audience, arguments.domain, bound)
        claims = verify(arguments.token, jwks or signing_keys(settings, now).published(now), due, now)
    except (NotCanonical, PermitRefused, ValidationError) as error:
        print(f"refused: {error}")
        return 1
    print(claims.model_dump_json(indent=2))
    return 0


def _policies(arguments: argparse.Namespace) -> int:
    for name, domain in Policies(catalog(), arguments.folder).items():
        print(name, domain.policy.name)
    return 0


def _rotate(_: argparse.Namespace) -> int:
    print(signing_keys(Settings(), system_chance().now()).rotate(system_chance().now()).public.kid)
    return 0


if __name__ == "__main__":
    main()
