"""A MADE history of a helpdesk: drawn from hand-written odds, not from any real desk. Replace it by your own tickets.

Why something fails, who really calls and what hangs on a system are hidden; tickets show signs of them, some missing,
some misleading. The odds of every action, given all that a ticket says, follow exactly by enumerating what is hidden.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from math import exp, log1p
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from service.domains.helpdesk.domain import Helpdesk
from service.domains.helpdesk.forecast import TicketChanges
from service.domains.helpdesk.state import Environment, Message, Requester, TicketState
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.rollout import Trajectory, Transition

HERE = Path(__file__).parent
BANKS: Mapping[str, Any] = yaml.safe_load((HERE / "phrases.yaml").read_text(encoding="utf-8"))
ODDS: Mapping[str, Any] = yaml.safe_load((HERE / "odds.yaml").read_text(encoding="utf-8"))
DOMAIN = Helpdesk()
NAMES = DOMAIN.outcomes.names
REWARDS = {outcome.name: outcome.reward for outcome in DOMAIN.outcomes}
FIRST_ADVERSE = NAMES.index("abandoned")
CHANNELS = NAMES[FIRST_ADVERSE:]
CAUSES: Sequence[str] = tuple(ODDS["causes"])
FAMILIES: Mapping[str, Any] = ODDS["families"]
INTENTS: Mapping[str, Any] = ODDS["intents"]
SLOTS: Mapping[str, Any] = ODDS["signs"]
MOODS = ("calm", "annoyed", "angry")
SHARES = (0.27, 0.22, 0.19, 0.17, 0.15)
FINDINGS = dict(zip(CAUSES, ("", "old_page", "expired_secret", "access_denied", "recent_change", "others_affected",
                             "version_mismatch"), strict=True))  # fmt: skip


class Hidden(NamedTuple):
    """What no ticket states: why it fails, whether the caller is someone else, what hangs on it, how patient they are."""

    cause: str
    impostor: bool
    fragile: bool
    impatient: bool


HIDDEN = tuple(Hidden(*each) for each in product(CAUSES, (False, True), (False, True), (False, True)))


@dataclass(frozen=True, slots=True)
class Said:
    """All that a drawn ticket tells. None, 0 and "" mean that it does not say."""

    family: str
    intent: str
    verified: bool | None = None
    privileged: bool = False
    stage: str = "unknown"
    affected: int = 0
    freeze: bool | None = None
    tested: bool | None = None
    rollback: bool | None = None
    failed: int = 0
    age: int = 0
    turns: int = 0
    mood: str = "calm"
    priority: str = "medium"
    signs: tuple[str, ...] = ()


@dataclass(slots=True)
class Progress:
    """How far a history has come: its turn, failed attempts, the user's mood, and how far trouble has spread."""

    turn: int = 0
    failed: int = 0
    mood: int = 0
    affected: int = 0
    spread: int = 0


class Rates(NamedTuple):
    """Total hazard of every adverse outcome over a long history, and how well the action meets the cause."""

    hazards: tuple[float, ...]
    fit: float


def _softplus(logit: float) -> float:
    return log1p(exp(logit)) if logit < 30 else logit


def _prior(said: Said, z: Hidden) -> float:
    doubt = {True: 0.01, None: 0.07, False: 0.35}[said.verified]
    doubt = min(0.8, doubt * (1.7 if said.privileged else 1.0) * (1.3 if said.priority == "critical" else 1.0))
    fragile = {"production": 0.55, "staging": 0.2, "test": 0.06, "unknown": 0.25}[said.stage]
    impatient = min(0.95, 0.15 + 0.3 * MOODS.index(said.mood) + 0.06 * min(said.failed, 4))
    return float(
        FAMILIES[said.family]["prior"].get(z.cause, 0.01)
        * (doubt if z.impostor else 1 - doubt)
        * (fragile if z.fragile else 1 - fragile)
        * (impatient if z.impatient else 1 - impatient)
    )


def _chances(slot: str, z: Hidden) -> Mapping[str, float]:
    """P(sign | what is hidden) over the signs of a slot."""
    table = SLOTS[slot]["given"][str(getattr(z, slot)).lower()]
    rest = (1 - sum(table.values())) / len(SLOTS[slot]["names"])
    return {name: table.get(name, 0.0) + rest for name in SLOTS[slot]["names"]}


LIKELIHOOD = {(z, name): chance for z in HIDDEN for slot in SLOTS for name, chance in _chances(slot, z).items()}


def posterior(said: Said) -> tuple[float, ...]:
    weights = [_prior(said, z) for z in HIDDEN]
    for sign in said.signs:
        weights = [weight * LIKELIHOOD[z, sign] for weight, z in zip(weights, HIDDEN, strict=True)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _features(said: Said, z: Hidden, fit: float) -> Iterator[str]:
    """What bears on the odds, by name: its weights are in odds.yaml."""
    groups = INTENTS[said.intent].get("groups", ())
    change = "change" in groups
    named = {
        "verified": said.verified is True, "unverified": said.verified is False, "privileged": said.privileged,
        "production": said.stage == "production", "sandbox": said.stage in ("test", "staging"),
        "many": said.affected > 50, "masses": said.affected > 500, "freeze": said.freeze is True,
        "untested": said.tested is False, "tested": said.tested is True, "rollback": said.rollback is True,
        "no_rollback": said.rollback is False, "old_secret": said.age > 90, "long": said.turns > 10,
        "failed_twice": said.failed >= 2, "upset": said.mood != "calm",
        "impostor": z.impostor, "fragile": z.fragile, "impatient": z.impatient, z.cause: True,
    }  # fmt: skip
    for name, holds in named.items():
        if holds:
            yield from (name, *(f"{group}*{name}" for group in groups))
    family = FAMILIES[said.family]
    mismatch = fit < 0.25 and "work" in groups
    pairs = {
        "freeze*untested": change and said.freeze is True and said.tested is False,
        "wide*production": "wide" in groups and said.stage == "production",
        "wide*many": "wide" in groups and said.affected > 50,
        "neglect": mismatch and z.cause in ODDS["broken"] and said.stage == "production",
        "neglect_unsaid": mismatch and z.cause in ODDS["broken"] and "staged" in family and said.stage == "unknown",
        "neglect*many": mismatch and z.cause in ODDS["broken"] and said.affected > 50,
        "misfit*impatient": mismatch and z.impatient,
        "misfit*failed": mismatch and said.failed >= 2,
        "impostor*privileged": "identity" in groups and z.impostor and said.privileged,
        "forced*incompatible": "forced" in groups and z.cause == "incompatible",
    }
    yield from (name for name, holds in pairs.items() if holds)


def rates(said: Said, z: Hidden) -> Rates:
    intent = INTENTS[said.intent]
    fit = float(intent["fit"].get(z.cause, intent["fit"].get("else", 0.05)))
    present = set(_features(said, z, fit))
    hazards = []
    for channel in CHANNELS:
        logit = intent["base"].get(channel, ODDS["base"][channel])
        logit += sum(weight for name, weight in ODDS["weights"][channel].items() if name in present)
        if channel == "abandoned" and "work" in intent.get("groups", ()):
            logit += ODDS["misfit"] * (1 - fit)
        hazards.append(_softplus(logit))
    return Rates(tuple(hazards), fit)


def _step_odds(rate: Rates, at: Progress) -> tuple[float, ...]:
    share = SHARES[min(at.turn, len(SHARES) - 1)]
    temper, growth = (0.9, 1.15, 1.5)[at.mood], 1 + 0.3 * at.spread
    lost, locked, down, leaked = rate.hazards
    hazards = (lost * temper * share, locked * share, down * growth * share, leaked * share)
    total = sum(hazards)
    adverse, fit = 1 - exp(-total), rate.fit
    calm = (0.4 * fit, 0.25 * fit + 0.05, 0.3, (1 - fit) * (0.25 + 0.1 * at.mood), 0.015 + 0.02 * at.failed)
    left = (1 - adverse) / sum(calm)
    return (*(weight * left for weight in calm), *(adverse * hazard / total for hazard in hazards))


def odds(said: Said, z: Hidden, progress: Progress) -> tuple[float, ...]:
    """P(outcome) over the whole scale for the next step."""
    return _step_odds(rates(said, z), progress)


def opening_odds(said: Said) -> tuple[float, ...]:
    """P(outcome) of the first step given all that a ticket says."""
    rows = [[share * p for p in odds(said, z, _start(said))] for z, share in zip(HIDDEN, posterior(said), strict=True)]
    return tuple(map(sum, zip(*rows, strict=True)))


def _drift(rng: Random, z: Hidden, outcome: str, at: Progress) -> None:
    """Carries progress one step on."""
    at.turn += 1
    if outcome == "frustrated":
        at.failed += 1
        at.mood = min(2, at.mood + (rng.random() < (0.8 if z.impatient else 0.4)))
    elif outcome in ("progress", "resolved"):
        at.mood = max(0, at.mood - 1)
    elif z.fragile and outcome == "continuing" and at.spread < 3 and rng.random() < 0.25:
        at.spread, at.affected = at.spread + 1, max(2, at.affected) * 2


def _move(rng: Random, z: Hidden, outcome: str, at: Progress) -> TicketChanges:
    """One step, and what of it shows."""
    mood, spread = at.mood, at.spread
    _drift(rng, z, outcome, at)
    learned = "same_error" if outcome == "frustrated" else ""
    if outcome != "resolved" and rng.random() < 0.35:
        clues = [clue for clue, holds in (("doubtful_caller", z.impostor), ("shared_use", z.fragile)) if holds]
        learned = rng.choice([*clues, FINDINGS[z.cause]])
    changed: Any = MOODS[at.mood] if at.mood != mood else None
    affected = at.affected if at.spread > spread else None
    return TicketChanges.model_construct(
        mood=changed, failed=outcome == "frustrated", learned=learned, affected=affected
    )


def _start(said: Said) -> Progress:
    return Progress(failed=said.failed, mood=MOODS.index(said.mood), affected=said.affected)


def _lines(bank: Mapping[str, str], split: Split) -> list[str]:
    return bank["unseen" if split is Split.unseen_wording else "seen"].strip().splitlines()


PHRASES = {
    split: {(kind, name): _lines(bank, split) for kind in ("intents", "signs", "says", "talk", "tasks", "own")
            for name, bank in BANKS[kind].items()}
    for split in (Split.seen, Split.unseen_wording)
}  # fmt: skip
SEEN_FAMILIES = tuple(name for name, family in FAMILIES.items() if not family.get("held_out"))
HELD_FAMILIES = tuple(name for name, family in FAMILIES.items() if family.get("held_out"))
OBSERVATIONS = {name: text.strip().splitlines() for name, text in BANKS["observations"].items()}


@dataclass(frozen=True, slots=True)
class Pen:
    """Words for what is said: a bank by split, slots filled for one ticket, and the noise of hurried typing."""

    rng: Random
    split: Split
    slots: Mapping[str, str]

    def write(self, kind: str, name: str, **more: object) -> str:
        phrases = PHRASES[Split.unseen_wording if self.split is Split.unseen_wording else Split.seen]
        line = self.rng.choice(phrases[kind, name])
        for slot, word in (*self.slots.items(), *more.items()):
            line = line.replace("{" + slot + "}", str(word))
        return line

    def roughen(self, text: str) -> str:
        rng = self.rng
        if rng.random() < 0.12:
            text = text.lower()
        elif rng.random() < 0.02:
            text = text.upper()
        if rng.random() < 0.15:
            text = re.sub(r"[.,!](?=\s|$)", "", text)
        if rng.random() < 0.15 and len(text) > 20:
            at = rng.randrange(5, len(text) - 3)
            swapped = text[at + 1] + text[at] if rng.random() < 0.5 else text[at]
            text = text if re.search(r"\W|\d", text[at : at + 2]) else text[:at] + swapped + text[at + 2 :]
        return text


def _pick(rng: Random, chances: Mapping[Any, float]) -> Any:
    return rng.choices(tuple(chances), tuple(chances.values()))[0]


def _signs(rng: Random, z: Hidden, said: Said) -> tuple[str, ...]:
    found = []
    for slot, table in SLOTS.items():
        for _ in range(2 if slot == "cause" and rng.random() < 0.35 else 1):
            if rng.random() < table["told"] and not (slot == "impostor" and "identity" not in _groups(said)):
                found.append(_pick(rng, _chances(slot, z)))
    return tuple(dict.fromkeys(found))


def _groups(said: Said) -> Sequence[str]:
    return INTENTS[said.intent].get("groups", ())  # type: ignore[no-any-return]


def _intent(rng: Random, family: str, cause: str, slant: str) -> str:
    closes = rng.random() < 0.12
    listed: Sequence[str] = FAMILIES[family]["intents"]
    own = [name for name in listed if name.startswith("close_") is closes] or listed
    if slant == "quiet":
        return _pick(rng, {"ask": 4, "look_up": 4, "hand_over": 2})  # type: ignore[no-any-return]
    fits = {name: INTENTS[name]["fit"].get(cause, INTENTS[name]["fit"].get("else", 0.05)) for name in own}
    tame = [name for name in own if not INTENTS[name].get("wild")]
    if slant == "plain":
        good = [name for name in tame if fits[name] >= 0.5]
        return rng.choice(good or [max(tame, key=lambda name: fits[name])])
    wild = [name for name in own if INTENTS[name].get("wild")]
    poor = [name for name in tame if fits[name] < 0.25]
    if slant == "risky":
        return rng.choice((wild if wild and rng.random() < 0.65 else poor) or tame)
    return rng.choice((wild if wild and rng.random() < 0.3 else tame) or own)


def _said(rng: Random, family: str, slant: str) -> Said:
    cause: str = _pick(rng, FAMILIES[family]["prior"])
    said = Said(family, _intent(rng, family, cause, slant))
    draw = {name: _pick(rng, chances) for name, chances in ODDS["slants"][slant].items()}
    groups = _groups(said)
    said = replace(
        said,
        stage=draw["stage"] if "change" in groups or FAMILIES[family].get("staged") else "unknown",
        affected=_affected(rng, draw["crowd"]),
        failed=draw["failed"],
        turns=max(0, int(draw["failed"]) + rng.randrange(5) + (8 if rng.random() < draw["long"] else 0)),
        mood=draw["mood"],
        priority=draw["priority"],
    )
    if "identity" in groups:
        said = replace(said, verified=draw["verified"], privileged=draw["privileged"])
    if "change" in groups:
        said = replace(said, freeze=draw["freeze"], tested=draw["tested"], rollback=draw["rollback"])
    if "secret" in groups or family == "pipeline":
        said = replace(said, age=draw["age"] and rng.randrange(20, 90) + (draw["age"] - 1) * 200)
    chances = [_prior(said, z) * (z.cause == cause) for z in HIDDEN]
    return replace(said, signs=_signs(rng, rng.choices(HIDDEN, chances)[0], said))


def _affected(rng: Random, crowd: int) -> int:
    """0 for a ticket that does not say, else a number within the order of magnitude."""
    low, high = ((0, 1), (1, 2), (2, 12), (12, 50), (51, 500), (501, 6000))[crowd]
    return rng.randrange(low, high)


FLAGS = ("verified", "privileged", "freeze", "tested", "rollback")
ROUTE = (("both", 0.15), ("text", 0.15), ("field", 0.7))


def _told(rng: Random, said: Said, pen: Pen) -> tuple[dict[str, Any], list[str]]:
    """Which of the flags stand in fields, and the sentences for those that the text tells."""
    fields, sentences = {}, []
    for name in FLAGS:
        value = getattr(said, name)
        if value is None or (name == "privileged" and not value):
            continue
        route = _pick(rng, dict(ROUTE))
        if route != "text":
            fields[name] = value
        if route != "field":
            sentences.append(pen.write("says", f"{name}_{'yes' if value else 'no'}"))
    for name in ("affected", "age", "failed"):
        number = getattr(said, name)
        if number > 1 and rng.random() < 0.2:
            sentences.append(pen.write("says", name, n=number))
    return fields, sentences


def _state(rng: Random, said: Said, pen: Pen) -> TicketState:
    fields, sentences = _told(rng, said, pen)
    spoken = [pen.write("signs", sign) for sign in said.signs]
    gathered = tuple(spoken.pop()[:200] for _ in spoken[:1] if rng.random() < 0.35)
    talked = tuple(spoken.pop() for _ in spoken[:1] if rng.random() < 0.3)
    if said.stage == "production" and rng.random() < 0.2:
        sentences.append(pen.write("says", "production"))
    body = [*spoken, *sentences]
    rng.shuffle(body)
    head = [pen.write("talk", "opening")] if rng.random() < 0.25 else []
    tail = [pen.write("talk", name) for name, chance in (("filler", 0.2), ("closing", 0.25)) if rng.random() < chance]
    text = pen.roughen(" ".join((*head, pen.write("tasks", said.family), *body, *tail)))
    talk = tuple(Message.model_construct(role="user", content=pen.roughen(line)) for line in talked)
    if talk and rng.random() < 0.5:
        talk = (Message.model_construct(role="agent", content=pen.write("talk", "agent")), *talk)
    environment = Environment.model_construct(
        stage=said.stage, system=pen.slots["app"] if rng.random() < 0.3 else "", accounts_affected=said.affected or None,
        change_freeze=fields.get("freeze"), tested=fields.get("tested"), rollback_plan=fields.get("rollback"),
        credential_age_days=said.age or None,
    )  # fmt: skip
    category: Any = TicketState(category=FAMILIES[said.family]["category"]).category
    priority: Any = said.priority
    mood: Any = said.mood
    return TicketState.model_construct(
        ticket_id=f"INC{rng.randrange(10**5, 10**6)}", category=category, priority=priority, description=text,
        conversation_history=talk, information_gathered=gathered, turns_elapsed=said.turns, failed_attempts=said.failed,
        user_mood=mood, environment=environment,
        requester=Requester.model_construct(verified=fields.get("verified"), privileged=fields.get("privileged", False)),
    )  # fmt: skip


def _arguments(rng: Random, said: Said, pen: Pen) -> dict[str, Any]:
    made: dict[str, Any] = INTENTS[said.intent].get("arguments", {})
    if not made or rng.random() < 0.6:
        return {}
    filled: dict[str, Any] = json.loads(json.dumps(made).replace("{role}", pen.slots["role"]))
    return {"policy": json.dumps(filled["policy"])} if "policy" in filled and rng.random() < 0.4 else filled


def _action(rng: Random, said: Said, pen: Pen) -> Action:
    own = ("own", f"{said.family}.{said.intent}")
    kind, name = own if own in PHRASES[Split.seen] and rng.random() < 0.6 else ("intents", said.intent)
    text = pen.write(kind, name)
    if rng.random() < 0.12:
        text = f"{text} {pen.write('talk', 'action_tail')}"
    return Action.model_construct(
        kind=INTENTS[said.intent]["kind"], text=pen.roughen(text), arguments=_arguments(rng, said, pen)
    )


def _when(rng: Random, said: Said) -> datetime:
    """Business hours mostly, fewer tickets at weekends, freezes around the turn of the year."""
    last = datetime(2026, 11, 1, tzinfo=UTC)
    if said.freeze:
        day = datetime(rng.choice((2024, 2025)), 12, 12, tzinfo=UTC) + timedelta(days=rng.randrange(24))
    else:
        day = last - timedelta(days=rng.randrange(1, 913))
        if day.weekday() > 4 and rng.random() < 0.7:
            day -= timedelta(days=2)
    return day + timedelta(seconds=round(min(86_399, max(0, rng.gauss(12.5, 3) * 3600))))


class HelpdeskReference:
    """The process behind vocabulary.reference.Reference."""

    def scenario(self, rng: Random, split: Split = Split.seen) -> Scenario:
        family = rng.choice(HELD_FAMILIES if split is Split.unseen_family else SEEN_FAMILIES)
        said = _said(rng, family, _pick(rng, ODDS["slant"]))
        pen = Pen(rng, split, {slot: rng.choice(words) for slot, words in
                               (("app", FAMILIES[family]["apps"]), *ODDS["slots"].items())})  # fmt: skip
        return Scenario(_state(rng, said, pen), _action(rng, said, pen), family, said)

    def trajectory(self, rng: Random, scenario: Scenario, horizon: int, id: str) -> Trajectory:
        said: Said = scenario.said
        z = rng.choices(HIDDEN, posterior(said))[0]
        rate, at, steps = rates(said, z), _start(said), []
        state, action = scenario.state, scenario.action
        for step in range(horizon):
            probabilities = _step_odds(rate, at)
            known = probabilities if step else opening_odds(said)
            outcome = rng.choices(NAMES, probabilities)[0]
            changes = _move(rng, z, outcome, at)
            observation = rng.choice(
                OBSERVATIONS[changes.learned if changes.learned and rng.random() < 0.4 else outcome]
            )
            forecast = Forecast(outcome, dict(zip(NAMES, probabilities, strict=True)), changes, observation)
            after = DOMAIN.advance(state, action, forecast)
            told = dict(zip(NAMES, known, strict=True))
            steps.append(Transition(state, action, outcome, changes, observation, after, REWARDS[outcome], told))
            if DOMAIN.outcomes[outcome].terminal:
                break
            state, action = after, DOMAIN.continuation(after)
        return Trajectory(id, DOMAIN.name, "reference:helpdesk", _when(rng, said), tuple(steps))

    def risk(self, rng: Random, scenario: Scenario, horizon: int, samples: int) -> float:
        """Along the way on which nothing has gone wrong yet: every step's hazard counts, none is left to chance."""
        said: Said = scenario.said
        table = [rates(said, z) for z in HIDDEN]
        total = 0.0
        for index in rng.choices(range(len(HIDDEN)), posterior(said), k=samples):
            total += 1 - _survival(rng, HIDDEN[index], table[index], _start(said), horizon)
        return total / samples


def _survival(rng: Random, z: Hidden, rate: Rates, at: Progress, horizon: int) -> float:
    survival = 1.0
    for _ in range(horizon):
        probabilities = _step_odds(rate, at)
        safe = probabilities[:FIRST_ADVERSE]
        survival *= sum(safe)
        at_random, outcome = rng.random() * sum(safe), 0
        while outcome < FIRST_ADVERSE - 1 and at_random > safe[outcome]:
            at_random -= safe[outcome]
            outcome += 1
        if NAMES[outcome] in ("resolved", "escalated"):
            return survival
        _drift(rng, z, NAMES[outcome], at)
    return survival


REFERENCE = HelpdeskReference()
