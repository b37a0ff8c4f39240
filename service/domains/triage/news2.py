"""NEWS2, the early warning score of the Royal College of Physicians (2017), for adults from 16 years."""

from dataclasses import dataclass

from service.domains.triage.state import TriageState, VitalSigns

SOURCE = "RCP NEWS2 (2017)"
ADULT_FROM = 16

# (up to and including, score); the first row that holds counts.
_RESP = ((8, 3), (11, 1), (20, 0), (24, 2), (999, 3))
_SPO2 = ((91, 3), (93, 2), (95, 1), (100, 0))
_SPO2_SCALE_2 = ((83, 3), (85, 2), (87, 1), (100, 0))
_SPO2_SCALE_2_OXYGEN = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (100, 3))
_SBP = ((90, 3), (100, 2), (110, 1), (219, 0), (999, 3))
_PULSE = ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (999, 3))
_TEMP = ((35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), (99, 2))


@dataclass(frozen=True, slots=True)
class News2:
    """The score of what was measured; a sign that was not measured scores nothing, so the true score may be higher."""

    parameters: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(score for _, score in self.parameters)

    @property
    def extreme(self) -> tuple[str, ...]:
        return tuple(name for name, score in self.parameters if score == 3)

    @property
    def band(self) -> str:
        if self.total >= 7:
            return "emergency"
        if self.total >= 5 or self.extreme:
            return "urgent"
        return "low" if self.total else "ok"


def score(state: TriageState) -> News2 | None:
    """The score, or None for a child or when nothing was measured."""
    if state.age is not None and state.age < ADULT_FROM:
        return None
    parameters = tuple(_parameters(state.vitals))
    return News2(parameters) if parameters else None


def _parameters(vitals: VitalSigns) -> list[tuple[str, int]]:
    rows = (
        ("resp_rate", vitals.resp_rate, _RESP),
        ("spo2", vitals.spo2, _spo2_table(vitals)),
        ("sbp", vitals.sbp, _SBP),
        ("heart_rate", vitals.heart_rate, _PULSE),
        ("temp_c", vitals.temp_c, _TEMP),
    )
    scores = [(name, _row(value, table)) for name, value, table in rows if value is not None]
    if vitals.on_oxygen:
        scores.append(("oxygen", 2))
    if vitals.consciousness is not None:
        scores.append(("consciousness", 0 if vitals.consciousness == "A" else 3))
    return scores


def _spo2_table(vitals: VitalSigns) -> tuple[tuple[int, int], ...]:
    if vitals.spo2_scale == 1:
        return _SPO2
    return _SPO2_SCALE_2_OXYGEN if vitals.on_oxygen else _SPO2_SCALE_2


def _row(value: float, table: tuple[tuple[float, int], ...]) -> int:
    return next(points for limit, points in table if value <= limit)
