"""The page for operators: every setting with its default, unit and range, and which failures it changes."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from service.settings import ROOT, SECRETS, SECTIONS, Settings
from service.vocabulary.setting import Setting
from service.vocabulary.verdict import RiskPolicy

PREFIX = Settings.model_config["env_prefix"]
ABOUT = f"""# Settings

Written by `python -m service settings > deploy/settings.md`; a test says if it was forgotten.

A setting is an environment variable. A *secret* may be a file of the name that is told with it, in `{SECRETS}`, instead; the
environment wins. All are read once, at the start, which is refused where they contradict each other."""
POLICIES = """
## Policies

How much risk a domain tolerates, and how hard it looks, ships with the domain (`service/domains/*/policy.py`). A file
`<domain>.yaml` in `PREMORTEM_POLICIES` says otherwise, in all but `adverse_from` and `temperature`, which were measured with the
checkpoint; it needs a `version`, and is taken while the service runs (`premortem policies check FOLDER` looks first). What is in force is
told by `GET /v1/domains/{name}`, named in every decision and noted in the audit chain.
"""
BOUNDS = {Ge: "≥ {0.ge}", Gt: "> {0.gt}", Le: "≤ {0.le}", Lt: "< {0.lt}", MinLen: "not empty"}
KINDS = {str: "text", Path: "a path", int: "a whole number", float: "a number"}


def manual(policies: Mapping[str, RiskPolicy]) -> str:
    """The page, in Markdown; `policies` are the domains'."""
    told = [ABOUT]
    for name, field in described(Settings, Settings.model_fields):
        if name in SECTIONS:
            told += [f"\n## {SECTIONS[name]}\n", _head("setting", "default")]
        told.append(_row(PREFIX + name.upper(), field, Settings.model_fields[name].default))
    told += [POLICIES, _head("field", *policies)]
    for name, field in described(RiskPolicy, [each.name for each in fields(RiskPolicy)]):
        told.append(_row(name, field, *[getattr(policy, name) for policy in policies.values()]))
    return "\n".join(told) + "\n"


def described(told: type, names: Iterable[str]) -> Iterable[tuple[str, FieldInfo]]:
    """What stands in the annotations of these fields."""
    hints = get_type_hints(told, include_extras=True)
    return [(name, FieldInfo.from_annotation(hints[name])) for name in names]


def setting_of(name: str, field: FieldInfo) -> Setting:
    """Raises `ValueError` for a field that says neither what it is nor which failures it changes."""
    for each in field.metadata:
        if isinstance(each, Setting):
            return each
    raise ValueError(f"{name} has no Setting in its annotation")


def _head(*first: str) -> str:
    columns = [*first, "unit", "allowed", "what it is", "which failures it changes"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def _row(name: str, field: FieldInfo, *defaults: object) -> str:
    setting = setting_of(name, field)
    what = f"*Secret*, `{name.lower()}`. {setting.what}" if setting.secret else setting.what
    cells = [f"`{name}`", *map(_shown, defaults), setting.unit, _allowed(field), what, setting.failures]
    return f"| {' | '.join(cells)} |"


def _shown(value: object) -> str:
    match value:
        case None | "" | () | frozenset():
            return ""
        case Path():
            return f"`{value.relative_to(ROOT) if value.is_relative_to(ROOT) else value}`"
        case Enum():
            return f"`{value.name}`"
        case tuple():
            return f"`{','.join(value)}`"
    return f"`{value}`".lower() if isinstance(value, bool) else f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if isinstance(kind, UnionType):  # of a type and None
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind):
        return "by comma" if NoDecode in field.metadata else "a JSON list"
    if kind is bool:
        return "`true`, `false`"
    if issubclass(kind, Enum):
        return ", ".join(f"`{each.name}`" for each in kind)
    bounds = [BOUNDS[type(each)].format(each) for each in field.metadata if type(each) in BOUNDS]
    return ", ".join(bounds if kind in (int, float) and bounds else [KINDS[kind], *bounds])
