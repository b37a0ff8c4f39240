"""Places, and who waits for one."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest

from service.admission import CROWDED_S, Admission, Effort, Priority, Work
from service.concurrency import PROBE, PROBE_EVERY, GradientLimit
from service.deadline import Deadline
from service.errors import Overloaded
from service.pace import Pace


class Door:
    """An admission with a clock that stands still until it is told to go on."""

    def __init__(self, places: int = 1) -> None:
        self.now, self.entered = 0.0, list[str]()
        self.admission = Admission(lambda: self.now, GradientLimit(places, most=places))

    def work(self, seconds: float = 600, priority: Priority = Priority.interactive) -> Work:
        return Work("safety", 5, Deadline(self.now + seconds, lambda: self.now), priority)

    async def through(self, name: str, work: Work) -> None:
        async with self.admission.admit(work):
            self.entered.append(name)

    async def queue(self, *who: tuple[str, Work]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.through(*each)) for each in who]
        await asyncio.sleep(0)
        return tasks


@pytest.fixture
def door() -> Door:
    return Door()


async def test_whoever_finds_no_place_waits_until_one_is_free(door: Door) -> None:
    async with door.admission.admit(door.work()) as effort:
        assert effort is Effort.full
        (waiting,) = await door.queue(("second", door.work()))
        assert (door.entered, door.admission.queued) == ([], 1)
    await waiting
    assert (door.entered, door.admission.queued, door.admission.active) == (["second"], 0, 0)


async def test_the_nearest_deadline_goes_first_and_people_before_a_batch(door: Door) -> None:
    async with door.admission.admit(door.work()):
        batch = door.work(1, Priority.batch)
        tasks = await door.queue(("late", door.work(9)), ("batch", batch), ("soon", door.work(5)))
    await asyncio.gather(*tasks)
    assert door.entered == ["soon", "late", "batch"]


async def test_a_batch_that_waits_gets_every_fourth_place(door: Door) -> None:
    async with door.admission.admit(door.work()):
        people = [(f"person {number}", door.work()) for number in range(6)]
        tasks = await door.queue(("batch", door.work(priority=Priority.batch)), *people)
    await asyncio.gather(*tasks)
    assert door.entered.index("batch") == 3


async def test_whoever_could_not_be_served_in_time_is_told_at_once_when_to_come_back(door: Door) -> None:
    door.admission.held.observe(2.0)
    async with door.admission.admit(door.work()):
        tasks = await door.queue(("patient", door.work()))
        async with door.admission.admit(door.work(0.5)) as effort:
            assert effort is Effort.history, "recorded cases have a share of the time"
            door.now += 0.6
        with pytest.raises(Overloaded) as refused:
            await door.through("hasty", door.work(0.5))
        assert refused.value.retry_after == 2
        door.now += 1_000
        await door.through("later", door.work(0.5))
    await asyncio.gather(*tasks)
    assert door.entered == ["later", "patient"]


async def test_whoever_waited_in_vain_is_told_what_recorded_cases_say_or_that_it_was_in_vain(door: Door) -> None:
    efforts = list[Effort]()
    async with door.admission.admit(door.work()):
        for _ in range(3):
            async with door.admission.admit(door.work(0)) as effort:
                efforts.append(effort)
                door.now += 0.6
    assert efforts == [Effort.history, Effort.none, Effort.none]
    assert (door.admission.queued, door.admission.active) == (0, 0)


async def test_for_a_while_after_somebody_found_no_place_everyone_is_given_less(door: Door) -> None:
    async with door.admission.admit(door.work()):
        await asyncio.gather(*await door.queue(("in vain", door.work(0))))
    async with door.admission.admit(door.work()) as effort:
        assert effort is Effort.quorum
    door.now += CROWDED_S
    async with door.admission.admit(door.work()) as effort:
        assert effort is Effort.full


async def test_where_time_is_short_there_are_fewer_futures(door: Door) -> None:
    for _ in range(50):
        door.admission.stepped(door.work(), 0.5, 5)
    for seconds, owed in ((0.4, Effort.quorum), (0.6, Effort.full)):
        async with door.admission.admit(door.work(seconds)) as effort:
            assert effort is owed


async def test_a_caller_who_is_gone_while_it_waits_takes_no_place_with_it(door: Door) -> None:
    async with door.admission.admit(door.work()):
        waiting, called = await door.queue(("waiting", door.work(9)), ("called", door.work(5)))
        waiting.cancel()
    called.cancel()  # in the very moment in which it was called
    await asyncio.gather(waiting, called, return_exceptions=True)
    assert (door.entered, door.admission.queued, door.admission.active) == ([], 0, 0)
    await door.through("next", door.work())


async def test_what_is_decided_already_takes_a_place_that_nobody_waits_for(door: Door) -> None:
    with door.admission.spare() as effort:
        assert effort is Effort.full
        (waiting,) = await door.queue(("waiting", door.work()))
        with door.admission.spare() as none:
            assert none is Effort.none
    await waiting
    assert door.admission.active == 0


async def test_however_they_come_and_go_no_place_is_lost_or_given_twice() -> None:
    chance, door, most = Random(7), Door(3), 0

    async def visit() -> None:
        nonlocal most
        async with AsyncExitStack() as inside:
            try:
                effort = await inside.enter_async_context(door.admission.admit(door.work(chance.choice((0, 1, 99)))))
            except Overloaded:
                return
            inside_now = door.admission.active
            most = max(most, inside_now)
            assert effort in (Effort.history, Effort.none) or inside_now <= 3
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    visits = [asyncio.create_task(visit()) for _ in range(500)]
    for each in visits:
        await asyncio.sleep(0)
        if chance.random() < 0.2:
            each.cancel()
    await asyncio.gather(*visits, return_exceptions=True)
    assert not any(each.exception() for each in visits if not each.cancelled())
    assert (most, door.admission.active, door.admission.queued) == (3, 0, 0)


# the limit


def test_an_engine_that_does_one_thing_at_a_time_is_given_few() -> None:
    limit = GradientLimit(20)
    limit.observe("safety", 0.1, 1)
    for _ in range(500):
        limit.observe("safety", 0.1 * limit.places, limit.places)
    assert 2 <= limit.places <= 4


def test_an_engine_that_does_many_as_fast_as_one_is_given_as_many_as_there_may_be() -> None:
    limit = GradientLimit(4, most=64)
    for _ in range(500):
        limit.observe("safety", 0.1, limit.places)
    assert limit.places == 64


def test_few_under_way_say_nothing_about_more() -> None:
    limit = GradientLimit(8)
    for _ in range(500):
        limit.observe("safety", 0.1, 1)
    assert limit.places == 8


def test_it_is_found_out_anew_how_fast_a_step_is_alone() -> None:
    limit = GradientLimit(4, most=16)
    for _ in range(PROBE_EVERY // 2):
        limit.observe("safety", 0.1, limit.places)
    for _ in range(PROBE_EVERY // 3):
        limit.observe("safety", 0.4, limit.places)
    assert limit.places <= 4, "four times slower than it once was: by its neighbours, as far as is known"
    alone = 0
    for _ in range(PROBE_EVERY // 2):
        limit.observe("safety", 0.4, 2)  # from before the probe, while there is one
        alone += limit.places == 1
        limit.observe("safety", 0.4, limit.places)
    assert alone == PROBE
    assert limit.places == 16, "it is that slow alone"


def test_pace_follows_what_is_seen_and_its_bound_the_spread() -> None:
    even, uneven = Pace(), Pace()
    assert even.bound == 0
    for number in range(100):
        even.observe(0.2)
        uneven.observe(0.1 if number % 2 else 0.3)
    assert even.mean == pytest.approx(0.2) == pytest.approx(even.bound, abs=0.01)
    assert uneven.mean == pytest.approx(0.2, abs=0.02) and 0.3 < uneven.bound < 0.5
