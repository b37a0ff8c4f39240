"""The policies in force: as the domains ship them, or as an operator's files say. All of the files are taken, or none."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from service.vocabulary.domain import Domain
from service.vocabulary.frozen import Frozen
from service.vocabulary.verdict import RiskPolicy

LOG = getLogger("premortem")
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MEASURED = ("adverse_from", "temperature")
"""No operator's to set."""
SHIPPED: Any = None
"""Not said: as it ships."""

POLICY = TypeAdapter(RiskPolicy)
Kind = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class BadPolicies(Exception):
    """Nothing of a folder is taken, for the sake of this file and field."""


class PolicyFile(Frozen):
    """What a file may say, and of which type; the ranges are the policy's own. What it leaves out is as it ships."""

    model_config = ConfigDict(strict=True)

    version: str
    threshold: float = SHIPPED
    critical_threshold: float = SHIPPED
    rollouts: int = SHIPPED
    max_rollouts: int = SHIPPED
    horizon: int = SHIPPED
    anchor_interval: int = SHIPPED
    quorum: int = SHIPPED
    budget_ms: int = SHIPPED
    approvals_required: int = SHIPPED
    shadow: Annotated[list[Kind] | Literal["*"], AfterValidator(frozenset)] = SHIPPED


@dataclass(frozen=True, slots=True)
class Edition:
    """One reading of the folder: its files byte for byte, and every domain under them."""

    files: Mapping[str, bytes]
    domains: Mapping[str, Domain]


class Policies(Mapping[str, Domain]):
    """The domains by name, each with the policy in force. A new edition is put in force by one assignment.

    Whoever took a domain from here keeps it, so what is under way ends under the policy that it began with.
    """

    def __init__(self, shipped: Mapping[str, Domain], folder: Path | None = None) -> None:
        """Raises `BadPolicies`."""
        self._shipped, self._folder = shipped, folder
        self._edition = _edition(shipped, folder, _files(shipped, folder))
        self._seen = self._edition.files
        self.refused = ""
        """Why the files, as they are now, are not in force; empty where they are, or will be."""

    def __getitem__(self, name: str) -> Domain:
        return self._edition.domains[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._edition.domains)

    def __len__(self) -> int:
        return len(self._edition.domains)

    def look(self) -> Edition | None:
        """What the files say now, if it is not in force, and if they were the same when it was last looked.

        A file that is half written, or a folder half exchanged, is another one then.
        """
        try:
            files = _files(self._shipped, self._folder)
            if files != self._seen:
                self._seen = files
                return None
            found = None if files == self._edition.files else _edition(self._shipped, self._folder, files)
        except BadPolicies as error:
            if self.refused != str(error):
                LOG.error("policy files refused, the old policies stay in force: %s", error)
            self.refused = str(error)
            return None
        self.refused = ""
        return found

    def put(self, edition: Edition) -> None:
        self._edition = edition


def _files(shipped: Mapping[str, Domain], folder: Path | None) -> Mapping[str, bytes]:
    """By domain. What begins with a dot is an editor's, or how Kubernetes exchanges a folder."""
    if folder is None:
        return {}
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        for path in paths:
            if path.suffix != ".yaml" or path.stem not in shipped:
                raise BadPolicies(f"{path}: no domain's policy; it would be one of {', '.join(shipped)}, and .yaml")
        return {path.stem: path.read_bytes() for path in paths}
    except OSError as error:
        raise BadPolicies(f"{error.filename or folder}: {error.strerror}") from error


def _edition(shipped: Mapping[str, Domain], folder: Path | None, files: Mapping[str, bytes]) -> Edition:
    domains = dict(shipped)
    for name, content in files.items():
        try:
            domains[name] = _under(shipped[name], content)
        except ValueError as error:
            raise BadPolicies(f"{folder}/{name}.yaml: {error}") from error
    return Edition(files, domains)


def _under(domain: Any, content: bytes) -> Domain:
    """The domain, under the policy of this file. Raises `ValueError`, naming the field."""
    told = _told(content)
    for name in MEASURED:
        if name in told:
            raise ValueError(f"{name}: it was measured with the checkpoint, and changes with it alone")
    try:
        file = PolicyFile.model_validate(told)
        said = {name: getattr(file, name) for name in file.model_fields_set}
        policy = POLICY.validate_python(asdict(domain.policy) | said)
    except ValidationError as error:
        raise ValueError(
            "; ".join(f"{': '.join([*map(str, each['loc'][:1]), each['msg']])}" for each in error.errors())
        ) from error
    changed: Domain = replace(domain, policy=policy)
    return changed


def _told(content: bytes) -> dict[str, Any]:
    """Raises `ValueError` for what is no mapping, or says the same twice."""
    try:
        told, node = yaml.load(content, YAML), yaml.compose(content, YAML)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, dict) or node is None:
        raise ValueError("it must be a mapping, of `version` and what is not as it ships")
    names = [key.value for key, _ in node.value]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name}: it is said twice")
    return told
