"""What the last few hundred values say."""

from random import Random

import pytest

from service.window import FEWEST, Reliability, Shift


def test_risks_that_come_true_as_often_as_they_say_have_no_error() -> None:
    reliability, rng = Reliability(last=20_000), Random(7)
    for _ in range(20_000):
        risk = rng.random()
        reliability.add(risk, rng.random() < risk)
    assert reliability.error() < 0.02


@pytest.mark.parametrize(("risk", "adverse", "error"), [(0.1, True, 0.9), (0.9, False, 0.9), (0.25, False, 0.25)])
def test_the_error_is_how_far_what_was_said_lies_from_what_was(risk: float, adverse: bool, error: float) -> None:
    reliability = Reliability()
    for _ in range(FEWEST):
        reliability.add(risk, adverse)
    assert reliability.error() == pytest.approx(error)


def test_few_values_say_nothing_and_old_ones_are_forgotten() -> None:
    reliability = Reliability(last=100)
    for _ in range(FEWEST - 1):
        reliability.add(0.0, True)
    assert reliability.error() == 0.0
    for _ in range(100):
        reliability.add(0.0, False)
    assert reliability.error() == 0.0


def test_the_same_population_does_not_shift_and_another_does() -> None:
    rng, steady, moved = Random(7), Shift(), Shift()
    for number in range(1_000):
        steady.add(rng.betavariate(2, 8))
        moved.add(rng.betavariate(2, 8) if number < 500 else rng.betavariate(4, 4))
    assert steady.index() < 0.1 and moved.index() > 0.25


def test_of_few_values_no_shift_is_said() -> None:
    shift = Shift()
    for number in range(2 * FEWEST - 1):
        shift.add(number % 2)
    assert shift.index() == 0.0
    shift.add(1.0)
    assert shift.index() >= 0.0
