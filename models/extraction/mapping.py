"""How somebody's history reads in a domain's words: a small YAML file."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, model_validator

from service.vocabulary.frozen import Frozen

SHIPPED = Path(__file__).parent / "mappings"
PLACE = re.compile(r"\{([\w.-]+)\}")
HIDDEN = ("next_state", "outcome", "label", "meta", "decisions")
"""What is known only afterwards, by the usual names: no input may be read from it."""


class Source(Frozen):
    """Where a value comes from: a path, a text with `{paths}` in it, a constant, a list or an object of such; a bare word is a path.

    `words` translates what was found ("otherwise" for the rest), `each` reads every item of a list, `most` keeps its last ones.
    """

    path: str = ""
    text: str = ""
    value: JsonValue = None
    items: tuple["Source", ...] = ()
    parts: dict[str, "Source"] = {}
    each: dict[str, "Source"] = {}
    words: dict[str, JsonValue] = {}
    most: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    def read(self, record: Any) -> Any:
        """The value, None where the record has none."""
        if self.parts:
            return _read(self.parts, record)
        if self.items:
            return [value for item in self.items if (value := item.read(record)) is not None]
        if self.text:
            return PLACE.sub(lambda place: spoken(found(record, place[1])), self.text)
        raw: Any = found(record, self.path) if self.path else self.value
        if self.each:
            return [_read(self.each, item) for item in raw or ()][-self.most :]
        return self.words.get(str(raw), self.words.get("otherwise", raw)) if self.words else raw

    def paths(self) -> Iterator[str]:
        """Every path that is read from the record itself."""
        yield from ([self.path] if self.path else []) + PLACE.findall(self.text)
        for part in (*self.items, *self.parts.values()):
            yield from part.paths()


class Act(Frozen):
    """What was about to be done."""

    kind: Source
    text: Source = Source(value="")


class Question(Frozen):
    """One thing that followed or did not: which values of `label` are adverse and which benign; any other is left out.

    `outcomes` names both on the domain's scale. `where` asks it only of records with these values. `twin` is the other
    proposal of a pair test, which is never adverse. `asks` stands for the mapping's own action.
    """

    name: str
    label: str
    adverse: tuple[JsonValue, ...]
    benign: tuple[JsonValue, ...]
    outcomes: tuple[str, str] = Field(description="of the benign, of the adverse")
    where: dict[str, tuple[JsonValue, ...]] = {}
    asks: Act | None = None
    twin: Act | None = None


class HistoryMapping(Frozen):
    """`file` is the name it fits, with wildcards; `text` is what the encoder reads, `codes` are values without meaning of
    their own, `seen` is everything that may be read at all, less `ignored`."""

    file: str
    domain: str
    id: str = "id"
    group: str
    when: str = ""
    state: dict[str, Source]
    action: Act
    text: Source | None = None
    codes: tuple[str, ...] = ()
    seen: tuple[str, ...] = ("state", "action")
    ignored: tuple[str, ...] = ()
    hidden: tuple[str, ...] = HIDDEN
    subgroups: dict[str, Source] = {}
    bands: dict[str, tuple[float, ...]] = {}
    questions: tuple[Question, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _nothing_from_afterwards(self) -> "HistoryMapping":
        leaking = sorted({path for path in self._inputs() if path.split(".")[0] in self.hidden})
        if leaking:
            raise ValueError(f"known only afterwards, so no input: {', '.join(leaking)}")
        return self

    def _inputs(self) -> Iterator[str]:
        acts = [self.action, *(act for asked in self.questions for act in (asked.asks, asked.twin) if act)]
        sources = [*self.state.values(), *(part for act in acts for part in (act.kind, act.text))]
        for source in [*sources, *([self.text] if self.text else [])]:
            yield from source.paths()
        yield from (*self.codes, *self.seen)


def load(path: Path) -> HistoryMapping:
    """Raises pydantic's `ValidationError` for a mapping that says something unknown or reads what it must not."""
    return HistoryMapping.model_validate(yaml.safe_load(path.read_text()))


def guess(history: Path) -> Path | None:
    """The shipped mapping that fits a history's file name."""
    return next((path for path in sorted(SHIPPED.glob("*.yaml")) if fnmatch(history.name, load(path).file)), None)


def found(record: Any, path: str) -> Any:
    """What lies at a dotted path; a number counts into a list, from its end if negative. None if nothing does."""
    for name in path.split("."):
        try:
            record = record[int(name)] if isinstance(record, list) else record.get(name)
        except (AttributeError, IndexError, ValueError):
            return None
    return record


def spoken(value: Any) -> str:
    """A value in words, as a person would read it out; an object name by name."""
    if isinstance(value, Mapping):
        return " ".join(f"{name} {spoken(part)}" for name, part in value.items() if part is not None)
    return " ".join(map(spoken, value)) if isinstance(value, list) else "" if value is None else str(value)


def _read(sources: Mapping[str, Source], record: Any) -> dict[str, Any]:
    return {name: value for name, source in sources.items() if (value := source.read(record)) is not None}
