"""The fields of work. A new one is one folder here and no edits."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, cast

import yaml

from service.vocabulary.domain import Domain
from service.vocabulary.fairness import Fairness
from service.vocabulary.planted import Plant
from service.vocabulary.reference import Reference
from service.vocabulary.violation import Detector

FOLDER = Path(__file__).parent
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def catalog() -> Mapping[str, Domain]:
    """Every domain by name, in alphabetical order."""
    found: list[Domain] = [import_module(f"{__name__}.{module.name}").DOMAIN for module in iter_modules([str(FOLDER)])]
    return MappingProxyType({domain.name: domain for domain in found})


def reference(domain: str) -> Reference:
    """The domain's made history."""
    process: Reference = import_module(f"{__name__}.{domain}.reference").REFERENCE
    return process


def fairness(domain: str) -> Fairness:
    """Whom an error of this field would fall on, and the same case of someone else."""
    return cast(Fairness, import_module(f"{__name__}.{domain}.fairness"))


def detectors(domain: str) -> Mapping[str, Detector]:
    """What cannot be in the course of one future of this field, by kind."""
    found: Mapping[str, Detector] = import_module(f"{__name__}.{domain}.consistency").DETECTORS
    return found


def plants(domain: str) -> Mapping[str, Plant]:
    """A way to put each of those faults into a history."""
    made: Mapping[str, Plant] = import_module(f"{__name__}.{domain}.planted").PLANTS
    return made


def examples(domain: str) -> list[dict[str, Any]]:
    """The domain's cases: proposal, what the world model says, the verdict and the record owed."""
    cases: list[dict[str, Any]] = yaml.load((FOLDER / domain / "examples.yaml").read_bytes(), YAML)
    return cases
