"""From a record to a case: a state and an action in the domain's types, and whether what followed was adverse."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from models.extraction.mapping import Act, HistoryMapping, Question, found, spoken
from models.extraction.sources import Record, Rejection
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Action

SIGN = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class Case:
    """`told` is everything that may be read, in words; `text` what the encoder reads of it; `harm` the outcome asked about."""

    id: str
    group: str
    when: datetime | None
    state: Any
    action: Action
    twin: Action | None
    adverse: bool
    outcome: str
    harm: str
    told: str
    text: str
    codes: tuple[str, ...]
    subgroups: Mapping[str, str]


def extract(
    records: Iterable[Record | Rejection], mapping: HistoryMapping, question: Question, domain: Domain
) -> Iterator[Case | Rejection]:
    """One case or one rejection a record. Raises `UnknownOutcome`, or ValueError if the adverse outcome is not the worse one."""
    benign, adverse = (domain.outcomes[name] for name in question.outcomes)
    if benign.severity >= adverse.severity:
        raise ValueError(f"{question.name}: {benign.name} is no milder than {adverse.name}")
    for record in records:
        yield record if isinstance(record, Rejection) else _case(record, mapping, question, domain)


def _case(record: Record, mapping: HistoryMapping, question: Question, domain: Domain) -> Case | Rejection:
    content = record.content
    refused = _refused(content, mapping, question)
    if refused:
        return Rejection(record.line, refused)
    adverse = found(content, question.label) in question.adverse
    try:
        read = {name: source.read(content) for name, source in mapping.state.items()}
        state = domain.state_type.model_validate({name: value for name, value in read.items() if value is not None})
        action = _action(question.asks or mapping.action, content)
        when = datetime.fromisoformat(found(content, mapping.when)) if mapping.when else None
        return Case(
            id=str(found(content, mapping.id) or record.line),
            group=str(found(content, mapping.group)),
            when=when,
            state=state,
            action=action,
            twin=_action(question.twin, content) if question.twin else None,
            adverse=adverse,
            outcome=question.outcomes[adverse],
            harm=question.outcomes[True],
            told=" ; ".join(told(content, mapping)),
            text=str(mapping.text.read(content)) if mapping.text else "",
            codes=tuple(f"{_last(path)}={found(content, path)}" for path in mapping.codes),
            subgroups=subgroups(content, mapping),
        )
    except ValidationError as error:
        first = error.errors()[0]
        return Rejection(record.line, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (TypeError, ValueError) as error:
        return Rejection(record.line, f"{mapping.when}: {error}")


def _refused(content: Mapping[str, Any], mapping: HistoryMapping, question: Question) -> str:
    if found(content, mapping.group) is None:
        return f"no {mapping.group}"
    for path, wanted in question.where.items():
        if found(content, path) not in wanted:
            return f"not asked: {path} is {found(content, path)}"
    label = found(content, question.label)
    if label is None:
        return f"no {question.label}"
    return "" if label in (*question.adverse, *question.benign) else f"left out: {question.label} is {label}"


def _action(act: Act, content: Mapping[str, Any]) -> Action:
    return Action(kind=spoken(act.kind.read(content)), text=spoken(act.text.read(content))[:8_000])


def told(content: Mapping[str, Any], mapping: HistoryMapping) -> Iterator[str]:
    """Name and value of everything that may be read; a code is one word with its name, for 40 alone says nothing."""
    for root in mapping.seen:
        for path, value in _leaves(content.get(root), root):
            if path in mapping.codes:
                yield SIGN.sub("_", f"{_last(path)} {value}")
            elif path not in mapping.ignored:
                yield f"{_last(path)} {value}"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _leaves(part, path)
    elif value is not None:
        yield path, value


def subgroups(content: Mapping[str, Any], mapping: HistoryMapping) -> dict[str, str]:
    """For reporting alone; numbers in bands."""
    read = {name: source.read(content) for name, source in mapping.subgroups.items()}
    return {name: _banded(value, mapping.bands.get(name, ())) for name, value in read.items()}


def _banded(value: Any, edges: Sequence[float]) -> str:
    if value is None or not edges:
        return "unknown" if value is None else str(value)
    above = [edge for edge in edges if value >= edge]
    below = [edge for edge in edges if value < edge]
    return f"{above[-1]:g}-{below[0]:g}" if above and below else f"{above[-1]:g}+" if above else f"<{below[0]:g}"


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]
