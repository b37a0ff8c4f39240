"""How far the detectors of incoherence can be trusted: faults planted into recorded histories, and those histories untouched.

The histories are of the part `detect`, which nothing else uses, half of them worded as no training text is, of proposals that
would be simulated, up to `HORIZON` steps. Every history that has room for a fault is told with it and without. Recall is the share
of faults found that were not seen before; precision counts the alarms on the same histories untouched against them. `recall` is of
faults in the words of recorded histories, as a world model trained on them writes; `recall_other_words` of faults in words that the
detectors were not written with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from random import Random
from typing import Any

import numpy as np

from models.validation.coherence.garble import KIND as GARBLED
from models.validation.coherence.garble import garbled, recorded_lines, scrambling
from models.validation.figure import Integers, figure, mean
from service.anchors.history import draw
from service.domains import detectors, plants, reference
from service.vocabulary.domain import Domain
from service.vocabulary.planted import Plant, Steps
from service.vocabulary.proposal import Proposal
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.rollout import Trajectory
from service.vocabulary.violation import Detector, violations

HORIZON = 20
SPLITS = (Split.seen, Split.unseen_wording)
Seen = frozenset[tuple[int, str]]


@dataclass(eq=False)
class Trial:
    """One kind of fault: of every history it was planted in, whether it was found, and whether the clean one was called so too."""

    found: dict[Split, list[bool]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    false: list[bool] = field(default_factory=list)
    alarms: list[bool] = field(default_factory=list)

    def precision(self, rows: Integers) -> float:
        found, false = np.array(self.found[Split.seen])[rows].sum(), np.array(self.false)[rows].sum()
        return float(found / (found + false)) if found + false else float("nan")

    def told(self, whose: list[int]) -> dict[str, Any]:
        return {
            "precision": figure(self.precision, range(len(self.false))).told(),
            "recall": mean(self.found[Split.seen]).told(),
            "recall_other_words": mean(self.found[Split.unseen_wording]).told(),
            "false_alarms": mean(self.alarms, whose).told(),
            "n": len(self.false),
        }


def histories(domain: Domain) -> Iterator[tuple[Scenario, Trajectory]]:
    """Recorded histories of proposals that would be simulated."""
    process = reference(domain.name)
    for number in count():
        scenario, trajectory = draw(process, domain, "detect", number, SPLITS[number % 2], HORIZON)
        proposal = Proposal(domain=domain.name, state=scenario.state, action=scenario.action)
        if domain.high_impact(proposal.action) and not domain.hard_rules(proposal):
            yield scenario, trajectory


def looked_for(domain: Domain) -> Mapping[str, Detector]:
    """The field's own detectors, and what no field can know: which words the made history has."""
    return {**detectors(domain.name), GARBLED: garbled(recorded_lines(domain.name))}


def planted(domain: Domain) -> Mapping[str, Plant]:
    return {**plants(domain.name), GARBLED: scrambling(domain, recorded_lines(domain.name))}


def tried(domain: Domain, number: int) -> dict[str, Any]:
    """By kind: precision and recall over `number` histories, and the share of their turns that is called so when nothing was planted."""
    looked, sown = looked_for(domain), planted(domain)
    trials: dict[str, Trial] = {kind: Trial() for kind in sown}
    whose: list[int] = []
    for at, (scenario, trajectory) in enumerate(islice(histories(domain), number)):
        steps = trajectory.transitions
        clean = seen(looked, steps)
        whose += [at] * len(steps)
        for kind, plant in sown.items():
            trials[kind].alarms += [(turn, kind) in clean for turn in range(len(steps))]
            found = [
                _found(kind, plant, f"{domain.name}/{kind}/{at}", scenario, steps, looked, clean, split)
                for split in SPLITS
            ]
            if None not in found:
                trials[kind].false.append(any(each == kind for _, each in clean))
                for split, was in zip(SPLITS, found, strict=True):
                    trials[kind].found[split].append(bool(was))
    return {kind: trial.told(whose) for kind, trial in trials.items()}


def seen(looked: Mapping[str, Detector], steps: Steps) -> Seen:
    return frozenset((each.turn, each.kind) for each in violations(looked, steps))


def _found(
    kind: str,
    plant: Plant,
    seed: str,
    scenario: Scenario,
    steps: Steps,
    looked: Mapping[str, Detector],
    clean: Seen,
    split: Split,
) -> bool | None:
    """Whether a fault of this kind was seen where there was none before; None if it could not be planted."""
    told = plant(Random(seed), scenario, steps, split)
    return None if told is None else any(each == kind for _, each in seen(looked, told) - clean)
