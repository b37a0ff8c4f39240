"""The reference history in bulk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from service.anchors.history import draw
from service.domains import catalog, reference
from service.vocabulary.rollout import Trajectory

CHUNK = 250


def draw_all(domain: str, part: str, count: int, workers: int = 1, horizon: int | None = None) -> Iterator[Trajectory]:
    """Trajectories 0 to count - 1, in order; `horizon` as `draw` takes it."""
    starts = range(0, count, CHUNK)
    chunk: Callable[[int], list[Trajectory]] = partial(_chunk, domain, part, count, horizon)
    if workers == 1:
        yield from (trajectory for start in starts for trajectory in chunk(start))
        return
    with ProcessPoolExecutor(workers) as pool:
        for trajectories in pool.map(chunk, starts):
            yield from trajectories


def _chunk(domain: str, part: str, count: int, horizon: int | None, start: int) -> list[Trajectory]:
    process, field = reference(domain), catalog()[domain]
    numbers = range(start, min(start + CHUNK, count))
    return [draw(process, field, part, number, horizon=horizon)[1] for number in numbers]
