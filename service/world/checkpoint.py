"""A world model's weights together with their whole story."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import Field, ValidationError

from service.vocabulary.frozen import Frozen
from service.world.codec import Codec

TOKENIZER, GRAPH, MANIFEST = "tokenizer.json", "model.int8.onnx", "manifest.json"


NOTHING = 2.0
"""The `familiar` that no situation reaches: whatever such a model says, a person rules."""


class BadCheckpoint(Exception):
    """A checkpoint that is not what its manifest says."""


class Canary(Frozen):
    """A prompt, the ids of its outcomes, and how likely these very weights find each: what shows other weights up."""

    prompt: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    odds: tuple[float, ...] = ()


class DomainStory(Frozen):
    """What was measured of one domain.

    `concentration`: how alike the futures of one proposal are (q ~ Beta(pc, (1-p)c)). `course`: how hazards usually go
    on, step by step, against the first. `familiar`: the cosine to the nearest recorded case below which a situation is not
    known. `calibration`: points of a monotone map, raw to calibrated. `spread`: for a calibrated risk, the bounds within which
    nine of ten true risks lay: the model's own error, which no number of futures takes away. `conformal`: for a promised share
    of adverse cases that may be approved, the highest threshold that keeps it; told beside the policy's own, which rules.
    """

    concentration: float = Field(default=4.0, gt=0)
    familiar: float = Field(default=0.5, ge=-1, le=NOTHING)
    course: tuple[float, ...] = ()
    calibration: tuple[tuple[float, float], ...] = ((0.0, 0.0), (1.0, 1.0))
    spread: tuple[tuple[float, float, float], ...] = ()
    conformal: tuple[tuple[float, float], ...] = ()
    canary: Canary = Canary()


class Manifest(Frozen):
    """The story of a checkpoint: how it was made, from what, and what it was measured to be worth."""

    name: str
    codec: str
    made: str
    revision: str
    arguments: dict[str, str | int | float | bool]
    data: dict[str, str | int]
    files: dict[str, str]
    scores: dict[str, float] = {}
    domains: dict[str, DomainStory] = {}
    parent: str = ""


class Fingerprinted(Protocol):
    @property
    def fingerprint(self) -> str: ...


Read = TypeVar("Read", bound=Fingerprinted)


def opened(folder: Path, read: Callable[[str], Read]) -> tuple[Manifest, Read]:
    """The manifest, and what `read` makes of the tokenizer. Raises `BadCheckpoint` if a file or that is not what it names."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
        for name, digest in manifest.files.items():
            if sha256(folder / name) != digest:
                raise BadCheckpoint(f"{folder / name} is not the file its manifest names")
        made = read((folder / TOKENIZER).read_text())
    except (OSError, ValidationError, ValueError) as error:
        raise BadCheckpoint(f"{folder}: {error}") from error
    if made.fingerprint != manifest.codec:
        raise BadCheckpoint(f"{folder} was trained with codec {manifest.codec}, this is {made.fingerprint}")
    return manifest, made


class Checkpoint:
    """Opens a checkpoint folder. Raises `BadCheckpoint`."""

    def __init__(self, folder: Path) -> None:
        self.manifest, self.codec = opened(folder, Codec)
        self.name = self.manifest.name
        self.graph = folder / GRAPH

    def story(self, domain: str) -> DomainStory:
        return self.manifest.domains.get(domain, DomainStory())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
