"""The one author of prompt text: situations to token ids, token ids to forecasts.

A step reads, left to right:

    <|domain|> name  <|precedent|> OUTCOME d ...  <|state|> <|field|> name <|is|> value ...  <|action|> kind <|is|> text
    OUTCOME  <|change|> name <|is|> value ...  [<|observed|> text]  <|step|>  [<|grounded|> OUTCOME fields]  <|action|> ...

OUTCOME is one token, and its whole distribution is read right after the action, before a word of prose exists. Markers are
ids that only this module writes: text goes through a tokenizer that has none, so text that spells a marker stays text, and
so does text that spells a control token of whatever model the tokenizer came from.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, get_origin

from pydantic import ValidationError

from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain, Fact
from service.vocabulary.forecast import Changes, Forecast
from service.vocabulary.proposal import Action
from service.world.model import PRECEDENTS, BadForecast, Grounding, Opening, PromptTooLong, Turn
from service.world.tokens import PlainText

VERSION = 1
PROMPT_LIMIT = 900
"""Tokens. A longer prompt is refused rather than cut: what is cut might be the one thing that mattered."""

PAD, DOMAIN, PRECEDENT, STATE, FIELD, IS, ACTION, CHANGE, OBSERVED, STEP, GROUNDED = FRAME = tuple(
    f"<|{name}|>"
    for name in (
        "pad",
        "domain",
        "precedent",
        "state",
        "field",
        "is",
        "action",
        "change",
        "observed",
        "step",
        "grounded",
    )
)


def outcome_marker(domain: str, outcome: str) -> str:
    return f"<|outcome:{domain}.{outcome}|>"


def is_marker(token: str) -> bool:
    return token in FRAME or token.startswith("<|outcome:")


def markers(domains: Iterable[Domain]) -> list[str]:
    """Every marker a tokenizer for these domains must hold, in the order of their ids."""
    return [*FRAME, *(outcome_marker(domain.name, name) for domain in domains for name in domain.outcomes.names)]


class Codec:
    """Holds a tokenizer twice over: once without its markers, for text, and the marker ids, for the frame."""

    def __init__(self, tokenizer_json: str) -> None:
        self._plain = PlainText(tokenizer_json)
        self.reserved = self._plain.reserved
        self.marker_ids = {token: id for token, id in self._plain.added.items() if is_marker(token)}
        if not set(FRAME) <= set(self.marker_ids):
            raise ValueError("the tokenizer's markers must hold the whole frame")
        self.vocabulary_size = max(self._plain.size, max(self.reserved) + 1)
        (self.pad, self._domain, self._precedent, self._state, self._field, self._is, self._action,
         self._change, self.observed, self.step, self._grounded) = (self.marker_ids[name] for name in FRAME)  # fmt: skip
        self.sayable = frozenset((self._change, self._is, self.observed, self.step))
        story = [VERSION, PRECEDENTS, self.marker_ids, *self._plain.spelling]
        self.fingerprint = hashlib.sha256(json.dumps(story, sort_keys=True).encode()).hexdigest()[:16]

    def text(self, *texts: str) -> list[list[int]]:
        """Ids of each text by itself; never a marker's or any other reserved id, whatever the text spells."""
        return self._plain.text(*map(_led, texts))

    def piece(self, token: int) -> str:
        """What one token spells, its leading space included."""
        return self._plain.piece(token)

    def outcome_ids(self, domain: Domain) -> tuple[int, ...]:
        """One id an outcome, in the order of the scale."""
        return tuple(self.marker_ids[outcome_marker(domain.name, name)] for name in domain.outcomes.names)

    def knows(self, domain: Domain) -> bool:
        return all(outcome_marker(domain.name, name) in self.marker_ids for name in domain.outcomes.names)

    def prompt(self, opening: Opening) -> list[int]:
        """Everything up to where the first outcome is read. Raises `PromptTooLong`."""
        domain = opening.domain
        facts = [f for f in domain.facts(opening.state, opening.action) if not (opening.masked and f.free)]
        told = [self._domain, *self.text(domain.name)[0]]
        for match in () if opening.masked else opening.precedents[:PRECEDENTS]:
            told += self._match(domain, match)
        told += [self._state, *self._fields(facts), *self.action(opening.action, masked=opening.masked)]
        if len(told) > PROMPT_LIMIT:
            raise PromptTooLong(f"state and action take {len(told)} tokens; the world model reads {PROMPT_LIMIT}")
        return told

    def turns(self, domain: Domain, turns: Sequence[Turn]) -> list[int]:
        """What has been lived through since the prompt, up to where the next outcome is read."""
        return [id for turn in turns for id in self._turn(domain, turn)]

    def action(self, action: Action, masked: bool = False) -> list[int]:
        kind, text = self.text(fold(action.kind), "" if masked else _ended(fold(action.text)))
        return [self._action, *kind, self._is, *text]

    def write(self, domain: Domain, forecast: Forecast) -> list[int]:
        """A step as the world model should say it: outcome, changes, observation if there is one, end of step."""
        changed = list(pairs(forecast.changes))
        encoded = self.text(*(part for pair in changed for part in pair), forecast.observation)
        said = [self.marker_ids[outcome_marker(domain.name, forecast.outcome)]]
        for name, value in zip(encoded[:-1:2], encoded[1:-1:2], strict=True):
            said += [self._change, *name, self._is, *value]
        if forecast.observation:
            said += [self.observed, *encoded[-1]]
        return [*said, self.step]

    def read(self, domain: Domain, ids: Sequence[int]) -> tuple[Changes, str]:
        """Changes and observation of a step as written after its outcome. Raises `BadForecast`."""
        body = list(ids[:-1] if ids and ids[-1] == self.step else ids)
        observation = ""
        if self.observed in body:
            at = body.index(self.observed)
            observation, body = self._plain.spell(body[at + 1 :]).strip(), body[:at]
        values: dict[str, list[str]] = {}
        for part in _split(body, self._change):
            if self._is not in part:
                raise BadForecast("a change without a value")
            at = part.index(self._is)
            name, value = (self._plain.spell(piece).strip() for piece in (part[:at], part[at + 1 :]))
            values.setdefault(name, []).append(value)
        try:
            return domain.forecast_type.model_validate(_unpacked(domain.forecast_type, values)), observation
        except ValidationError as error:
            raise BadForecast(f"changes that {domain.name} does not know: {error.error_count()} faults") from error

    def _turn(self, domain: Domain, turn: Turn) -> list[int]:
        written = turn.forecast.ids or self.write(domain, turn.forecast)
        grounding = self.grounding(domain, turn.grounding) if turn.grounding else []
        return [*written, *grounding, *self.action(turn.action)]

    def grounding(self, domain: Domain, grounding: Grounding) -> list[int]:
        outcome = self.marker_ids[outcome_marker(domain.name, grounding.outcome)]
        return [self._grounded, outcome, *self._fields(grounding.facts)]

    def _match(self, domain: Domain, match: Match) -> list[int]:
        nearness = min(9, max(0, int((match.similarity - 0.5) * 20)))
        outcome = self.marker_ids[outcome_marker(domain.name, match.anchor.outcome)]
        return [self._precedent, outcome, *self.text(str(nearness))[0]]

    def _fields(self, facts: Sequence[Fact]) -> list[int]:
        encoded = self.text(*(part for fact in facts for part in (fact.name, fold(fact.value))))
        told: list[int] = []
        for name, value in zip(encoded[::2], encoded[1::2], strict=True):
            told += [self._field, *name, self._is, *value]
        return told


def _ended(text: str) -> str:
    """With a full stop, or the world model may expect more words where an outcome is due."""
    return text if not text or text[-1] in ".!?" else f"{text}."


def _led(text: str) -> str:
    """A word is the same token at the start of a text as inside it: with a space before it."""
    return f" {text}" if text else ""


def fold(text: str) -> str:
    """What is told is folded to lower case and single spaces, so that shouting is not a different situation."""
    return " ".join(text.lower().split())


def pairs(changes: Changes) -> Iterable[tuple[str, str]]:
    """Only what changed; a list item by item."""
    for name, value in changes.model_dump(mode="json", exclude_defaults=True).items():
        for item in value if isinstance(value, list) else [value]:
            yield name, _plain_value(item)


def _unpacked(changes: type[Changes], values: dict[str, list[str]]) -> dict[str, Any]:
    """A field that holds many keeps all its values; any other must have been said once."""
    many = {name for name, field in changes.model_fields.items() if get_origin(field.annotation) in (tuple, list)}
    twice = [name for name, said in values.items() if len(said) > 1 and name not in many]
    if twice:
        raise BadForecast(f"{twice[0]} changed twice in one step")
    return {name: said if name in many else said[0] for name, said in values.items()}


def _plain_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _split(ids: Sequence[int], marker: int) -> Iterable[list[int]]:
    parts: list[list[int]] = []
    for id in ids:
        if id == marker:
            parts.append([])
        elif parts:
            parts[-1].append(id)
        else:
            raise BadForecast("a step that does not begin with a change")
    return parts
