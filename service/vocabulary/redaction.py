"""What a field strikes out of a decision before it is kept, and the record of it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ConfigDict, JsonValue, TypeAdapter

PLACES = ("/proposal/state", "/proposal/action", "/proposal/asker", "/explanation", "/futures")
"""What rules are held to."""
SPARE = ("/proposal/state/", "/proposal/action/arguments/")
"""What a decision can be without."""
OPEN = "/proposal/action/arguments"
"""Below it names are the sender's own words: they are struck as texts are, and no record tells them."""
LONG = 10**8
"""Below `OPEN` a whole number from here on is an identifier, and is read as a text: nothing is measured so large."""
DIGIT = re.compile(r"\d")
RISKY = re.compile(r"(?<![}?])[*+]|\{\d*,\}|\)\{(?!\d+\}|\d*,\d+\}\+)|\\[1-9]|\(\?P[=<>]")
"""Repetition without a bound, a repeated group that can give back, or a group that is referred to: slow on some text."""


class BadRedactions(Exception):
    """Rules that cannot be held to."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Strikes what matches, as the marker `[name]`; or with `drop` the whole field, which must be one that may be left out.

    `where` names places by JSON pointer, with * for any item of a list; none is everywhere. `check` is a checksum besides.
    What has none of the `words`, in any case, or fewer `digits` cannot match, and is not looked at.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    pattern: str = ""
    where: tuple[str, ...] = ()
    drop: bool = False
    check: str = ""
    words: tuple[str, ...] = ()
    digits: int = 0

    def __post_init__(self) -> None:
        """Raises `BadRedactions`."""
        for wrong, why in (
            (not re.fullmatch(r"[\w -]{1,40}", self.name), "has no plain name"),
            (bool(self.pattern) is self.drop, "needs either a pattern or drop"),
            (self.drop and not self.where, "drops, but not what"),
            (self.drop and not all(at.startswith(SPARE) for at in self.where), f"may only drop below {SPARE}"),
            (not all(at.startswith(PLACES) for at in self.where), f"names a place that is not in {PLACES}"),
            (any(word != word.casefold() for word in self.words), "has words that are not in small letters"),
            (self.check not in ("", *CHECKS), f"has a check that is none of {sorted(CHECKS)}"),
            (RISKY.search(CLASSES.sub("x", self.pattern)), "must bound what repeats: {1,64}, and {1,8}+ of a group"),
        ):
            if wrong:
                raise BadRedactions(f"the rule {self.name!r} {why}")

    def may_match(self, folded: str, digits: int) -> bool:
        return digits >= self.digits and (not self.words or any(word in folded for word in self.words))

    def covers(self, at: str) -> bool:
        return not self.where or any(at == place or at.startswith(f"{place}/") for place in self.where)


Rules = tuple[Redaction, ...]
RULES: TypeAdapter[Rules] = TypeAdapter(Rules)
Patterns = Mapping[Redaction, re.Pattern[str]]


def redactions(path: Path) -> Rules:
    """The rules in a file. Raises `BadRedactions`: rules that are half understood protect nobody."""
    try:
        listed = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or []
        rules = RULES.validate_python(tuple(_spelt(entry) for entry in listed))
        _compiled(rules)
    except (BadRedactions, OSError, AttributeError, TypeError, ValueError, re.error, yaml.YAMLError) as error:
        raise BadRedactions(f"{path}: {error}") from error
    return rules


def redact(value: JsonValue, rules: Sequence[Redaction]) -> tuple[JsonValue, tuple[str, ...]]:
    """The value without what the rules strike, and what was struck where: its name and place, never itself.

    What is neither text nor made of texts, such as a time, passes.
    """
    if not rules:
        return value, ()
    patterns = _compiled(tuple(rules))
    droppable = any(_has(value, place.split("/")[1:]) for rule in rules if rule.drop for place in rule.where)
    if not droppable and not _suspect(list(_texts(value, "")), patterns):
        return value, ()
    strike = _Strike([(rule, patterns.get(rule)) for rule in rules])
    return strike.through(value, ""), strike.told()


class _Strike:
    """One passage through one value."""

    def __init__(self, rules: Sequence[tuple[Redaction, re.Pattern[str] | None]]) -> None:
        self._rules = rules
        self._found: dict[tuple[str, int], int] = {}

    def told(self) -> tuple[str, ...]:
        lines = []
        for (at, number), count in sorted(self._found.items()):
            rule, _ = self._rules[number]
            lines.append(f"{rule.name} dropped from {at}" if rule.drop else f"{rule.name} ×{count} in {at}")
        return tuple(lines)

    def through(self, value: JsonValue, at: str) -> JsonValue:
        if isinstance(value, dict):
            return self._members(value, at)
        if isinstance(value, list | tuple):
            within = f"{at}/*"
            return [self.through(item, within) for item in value if not self._drops(within)]
        if isinstance(value, str):
            return self._struck(value, at)
        if _is_long(value, at):
            struck = self._struck(str(value), at)
            return value if struck == str(value) else struck
        return value

    def _members(self, value: dict[str, JsonValue], at: str) -> JsonValue:
        kept: dict[str, JsonValue] = {}
        for name, item in value.items():
            within = f"{at}/{name}"
            if not self._drops(within):
                told = self._struck(name, at) if at.startswith(OPEN) else name
                while told in kept:
                    told += "'"
                kept[told] = self.through(item, within)
        return kept

    def _drops(self, at: str) -> bool:
        for number, (rule, _) in enumerate(self._rules):
            if rule.drop and at in rule.where:
                self._count(at, number, 1)
                return True
        return False

    def _struck(self, text: str, at: str) -> str:
        folded, digits = text.casefold(), _digits(text)
        for number, (rule, pattern) in enumerate(self._rules):
            if pattern and rule.may_match(folded, digits) and rule.covers(at):
                check, count = CHECKS[rule.check], 0

                def marked(match: re.Match[str], rule: Redaction = rule, check: Check = check) -> str:
                    nonlocal count
                    if not (match[0] and check(match[0])):
                        return match[0]
                    count += 1
                    return _marker(rule.name, len(match[0]))

                text = pattern.sub(marked, text)
                self._count(at, number, count)
        return text

    def _count(self, at: str, number: int, count: int) -> None:
        if count:
            place = OPEN if at.startswith(OPEN) else at
            self._found[place, number] = self._found.get((place, number), 0) + count


def _marker(name: str, length: int) -> str:
    """Never longer than what was struck, so that no field grows over its limit."""
    return f"[{name}]" if len(name) + 2 <= length else "▮" * length


def _suspect(texts: Sequence[str], patterns: Patterns) -> bool:
    """Whether any of the texts matches anything, wherever it stands."""
    folded = "\0".join(texts).casefold()
    likely = [(rule.digits, pattern) for rule, pattern in patterns.items() if rule.may_match(folded, rule.digits)]
    for text in texts:
        digits = _digits(text)
        if any(digits >= needed and pattern.search(text) for needed, pattern in likely):
            return True
    return False


def _has(value: JsonValue, place: Sequence[str]) -> bool:
    if not place:
        return True
    if isinstance(value, list | tuple):
        return place[0] == "*" and any(_has(item, place[1:]) for item in value)
    return isinstance(value, dict) and place[0] in value and _has(value[place[0]], place[1:])


def _digits(text: str) -> int:
    return len(DIGIT.findall(text))


def _texts(value: JsonValue, at: str) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            within = f"{at}/{name}"
            if at.startswith(OPEN):
                yield name
            yield from _texts(item, within)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, at)
    elif _is_long(value, at):
        yield str(value)


def _is_long(value: JsonValue, at: str) -> bool:
    return isinstance(value, int) and abs(value) >= LONG and at.startswith(OPEN)


@cache
def _compiled(rules: Rules) -> Patterns:
    return {rule: re.compile(rule.pattern) for rule in rules if rule.pattern}


def _spelt(entry: Mapping[str, Any]) -> dict[str, Any]:
    """As a file may have it: a list of patterns is any of them."""
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    pattern = found.get("pattern", "")
    return found | {"pattern": "|".join(pattern) if isinstance(pattern, tuple) else pattern}


def luhn(text: str) -> bool:
    """Whether the digits are a card number's: ISO/IEC 7812-1, annex B."""
    digits = [int(each) for each in reversed(text) if each.isdecimal()]
    return sum(sum(divmod(2 * digit, 10)) if odd % 2 else digit for odd, digit in enumerate(digits)) % 10 == 0


def nhs(text: str) -> bool:
    """Whether ten digits are an NHS number: its last is a check on the others, modulo 11."""
    digits = [int(each) for each in text if each.isdecimal()]
    weighed = sum(weight * digit for weight, digit in zip(range(10, 1, -1), digits, strict=False))
    return len(digits) == 10 and (11 - weighed % 11) % 11 == digits[-1]


Check = Callable[[str], bool]
CHECKS: Mapping[str, Check] = {"": lambda text: True, "luhn": luhn, "nhs": nhs}
CLASSES = re.compile(r"\\[^1-9]|\[\^?\]?(?:\\.|[^\]\\])*\]")
"""What stands for one character in a pattern."""
