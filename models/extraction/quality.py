"""What a history is worth before anything is measured on it: counts, balance, duplicates, and leaks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.extraction.extract import Case
from models.extraction.sources import Rejection


@dataclass(frozen=True, slots=True)
class Quality:
    """`repeated` cases read word for word like an earlier one; of them, `contradicting` were followed by the other thing."""

    cases: int
    groups: int
    adverse: int
    repeated: int
    contradicting: int
    rejected: Mapping[str, int]
    first_rejected: Mapping[str, int]

    @property
    def balance(self) -> float:
        return self.adverse / self.cases if self.cases else float("nan")


@dataclass(frozen=True, slots=True)
class Leak:
    """What lies on both sides of a split: groups, which must not, and records that read alike, which may recur in earnest."""

    groups: tuple[str, ...]
    texts: int


def quality(found: Iterable[Case | Rejection]) -> Quality:
    """Reasons are counted, each with the first line it befell."""
    cases: list[Case] = []
    reasons: Counter[str] = Counter()
    lines: dict[str, int] = {}
    for each in found:
        if isinstance(each, Case):
            cases.append(each)
        else:
            reasons[each.reason] += 1
            lines.setdefault(each.reason, each.line)
    first: dict[str, Case] = {}
    again = [(case, first[case.told]) for case in cases if first.setdefault(case.told, case) is not case]
    return Quality(
        cases=len(cases),
        groups=len({case.group for case in cases}),
        adverse=sum(case.adverse for case in cases),
        repeated=len(again),
        contradicting=sum(case.adverse != earlier.adverse for case, earlier in again),
        rejected=dict(reasons),
        first_rejected=lines,
    )


def leak(recorded: Sequence[Case], scored: Sequence[Case]) -> Leak:
    groups = {case.group for case in recorded} & {case.group for case in scored}
    texts = {case.told for case in recorded}
    return Leak(tuple(sorted(groups)), sum(case.told in texts for case in scored))
