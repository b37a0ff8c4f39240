"""The bundled checkpoint in process, on CPU.

Every future is its own request. One worker thread serves them all: it takes whatever futures of one evaluation are waiting,
runs them through the engine in one pass, and lets each go its own way. A cancelled future is simply not in the next pass.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.vocabulary.forecast import Forecast
from service.world.checkpoint import Checkpoint
from service.world.codec import Codec
from service.world.model import BadForecast, Detail, Opening, Situation, WorldModelUnavailable
from service.world.tree import Engine, Tree

Logits = NDArray[np.float32]
Step = Generator[list[int], Logits, Forecast]

STEP_LIMIT = 48
"""Tokens of changes, and again of observation; a step that rambles on is a fault."""
LABEL_MASS = 0.5
"""Least probability the domain's outcomes must hold among all markers for the reading to mean anything. Plain tokens do not
count: that the action's text ends here is the codec's word, not the model's guess."""
STAGES = 64
ROOM = 512
"""Tokens a tree has room for before it must grow."""


@dataclass(eq=False)
class Stage:
    """One opening: its prompt, its tree, and the branch each future has grown in it."""

    opening: Opening
    prompt: list[int]
    tree: Tree | None = None
    branches: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Job:
    """One future's next step, as the worker sees it."""

    stage: Stage
    seed: int
    step: Step
    wants: list[int]
    answer: "Future[Forecast]"
    branch: int = -1


class LocalWorldModel:
    """`threads` are the engine's; the answer is the same for equal seeds as long as the batch is the same (int8 is not batch-invariant)."""

    def __init__(self, checkpoint: Checkpoint, threads: int = 1) -> None:
        self.name = f"local:{checkpoint.name}"
        self._codec = checkpoint.codec
        self._engine = Engine(checkpoint.graph, threads)
        self._stages: OrderedDict[int, Stage] = OrderedDict()
        self._jobs: list[Job] = []
        self._awake = threading.Condition()
        self._closed = False
        self.passes = 0
        self.tokens_written = 0
        self._unsayable = np.zeros(self._engine.vocabulary_size, dtype=bool)
        self._unsayable[list(self._codec.reserved)] = True
        self._unsayable[list(self._codec.sayable)] = False
        self._worker = threading.Thread(target=self._serve, name="world-local", daemon=True)
        self._worker.start()

    async def forecast(self, situation: Situation) -> Forecast:
        stage = self._stage(situation.opening)
        ahead = self._codec.turns(situation.opening.domain, situation.turns)
        step = write_step(self._codec, situation, ahead, self._unsayable)
        job = Job(stage, situation.seed, step, next(step), Future())
        with self._awake:
            if self._closed:
                raise WorldModelUnavailable("the local world model is closed")
            self._jobs.append(job)
            self._awake.notify()
        return await asyncio.wrap_future(job.answer)

    async def healthy(self) -> bool:
        return self._worker.is_alive() and not self._closed

    async def aclose(self) -> None:
        with self._awake:
            self._closed = True
            self._awake.notify()
        await asyncio.to_thread(self._worker.join)

    def _stage(self, opening: Opening) -> Stage:
        """The futures of one evaluation share their opening object, and with it the tree."""
        key = id(opening)
        if key not in self._stages:
            self._stages[key] = Stage(opening, self._codec.prompt(opening))
            while len(self._stages) > STAGES:
                self._stages.popitem(last=False)
        self._stages.move_to_end(key)
        return self._stages[key]

    def _serve(self) -> None:
        while True:
            with self._awake:
                self._awake.wait_for(lambda: self._jobs or self._closed)
                self._jobs = [job for job in self._jobs if not job.answer.cancelled()]
                batch = [job for job in self._jobs if job.stage is self._jobs[0].stage]
                self._jobs = [job for job in self._jobs if job.stage is not batch[0].stage]
                if self._closed:
                    batch += self._jobs
                    break
            unfinished = self._pass(batch) if batch else []
            with self._awake:
                self._jobs += unfinished
        for job in batch:
            _answer(job, WorldModelUnavailable("the local world model is closed"))

    def _pass(self, batch: list[Job]) -> list[Job]:
        """One forward pass for all of a stage's waiting futures; returns those that have more to write."""
        try:
            logits = self._read(batch)
        except Exception as error:  # whatever the engine throws, no future may wait for ever
            for job in batch:
                _answer(job, WorldModelUnavailable(f"the local engine failed: {error}"))
            return []
        return [job for job, row in zip(batch, logits, strict=True) if _advance(job, row)]

    def _read(self, batch: list[Job]) -> list[Logits]:
        stage = batch[0].stage
        if stage.tree is None:
            stage.tree = self._engine.tree(stage.prompt, ROOM)
            self.passes += 1
        tree = stage.tree
        for job in batch:
            if job.branch < 0:
                job.branch, job.wants = _resume(stage, tree, job)
        wanted = {job.branch: job.wants for job in batch if job.wants}
        read = tree.extend(wanted) if wanted else {}
        self.passes += bool(wanted)
        self.tokens_written += len(batch)  # every row read is one token drawn, the one after the prompt included
        return [read[job.branch] if job.wants else tree.prompt_logits for job in batch]


def _resume(stage: Stage, tree: Tree, job: Job) -> tuple[int, list[int]]:
    """The future's own branch and what it has not yet read; a new branch if it has none, another past, or is asked the same again."""
    branch = stage.branches.get(job.seed)
    held = tree.tokens(branch) if branch is not None else ()
    asked_again = bool(held) and len(job.wants) <= len(held)
    if branch is None or asked_again or tuple(job.wants[: len(held)]) != tuple(held):
        if branch is not None:
            tree.drop(branch)
        branch, held = tree.branch(), ()
        stage.branches[job.seed] = branch
    return branch, job.wants[len(held) :]


def _advance(job: Job, logits: Logits) -> bool:
    """Whether the job has more to write."""
    try:
        job.wants = job.step.send(logits)
        return True
    except StopIteration as finished:
        _answer(job, finished.value)
    except BadForecast as fault:
        _answer(job, fault)
    except Exception as error:  # the worker serves everyone: no single step may end it
        _answer(job, WorldModelUnavailable(f"a step could not be read: {error}"))
    return False


def _answer(job: Job, answer: Forecast | Exception) -> None:
    if not job.answer.set_running_or_notify_cancel():
        return
    if isinstance(answer, Exception):
        job.answer.set_exception(answer)
    else:
        job.answer.set_result(answer)


def write_step(codec: Codec, situation: Situation, ahead: list[int], unsayable: NDArray[np.bool_]) -> Step:
    """Yields the tokens to read next, receives the logits after them, and returns the forecast."""
    domain = situation.opening.domain
    chance = np.random.Generator(np.random.Philox(key=[situation.seed % 2**64, len(situation.turns)]))
    labels, frame = codec.outcome_ids(domain), list(codec.marker_ids.values())
    odds = distribution((yield ahead)[frame], tuple(map(frame.index, labels)), len(frame))
    drawn = min(int(np.searchsorted(np.cumsum(odds), chance.random())), len(labels) - 1)
    outcome = tuple(domain.outcomes)[drawn]
    probabilities = dict(zip(domain.outcomes.names, odds.tolist(), strict=True))
    adverse = outcome.severity >= domain.adverse_from(situation.opening.action)
    wanted = situation.detail is not Detail.odds and (adverse or situation.detail is not Detail.outcome)
    if not wanted:
        return Forecast(outcome.name, probabilities, domain.forecast_type())
    said = [labels[drawn]]
    temperature = domain.policy.temperature
    while (token := draw((yield said[-1:]), chance, temperature, unsayable)) not in (codec.step, codec.observed):
        said.append(token)
        if len(said) > STEP_LIMIT:
            raise BadForecast("changes without end")
    if adverse or situation.detail is Detail.prose:
        said.append(codec.observed)
        speech = unsayable.copy()
        speech[list(codec.sayable - {codec.step})] = True
        start = len(said)
        while (token := draw((yield said[-1:]), chance, temperature, speech)) != codec.step:
            said.append(token)
            if len(said) - start > STEP_LIMIT:
                raise BadForecast("an observation without end")
    said.append(codec.step)
    changes, observation = codec.read(domain, said[1:])
    return Forecast(outcome.name, probabilities, changes, observation, tuple(said))


def distribution(logits: Logits, labels: tuple[int, ...], markers: int) -> NDArray[np.float64]:
    """P(outcome) over the scale, of the first `markers` ids. Raises `BadForecast` if the model named no outcome of the domain."""
    weights = np.exp(logits[:markers].astype(np.float64) - logits[:markers].max())
    mass = weights[list(labels)]
    if not mass.sum() >= LABEL_MASS * weights.sum():
        raise BadForecast("no outcome where an outcome was due")
    return np.asarray(mass / mass.sum())


def draw(logits: Logits, chance: np.random.Generator, temperature: float, forbidden: NDArray[np.bool_]) -> int:
    scaled = np.where(forbidden, -np.inf, logits / temperature)
    heights = np.exp(scaled - scaled.max()).cumsum()
    return min(int(np.searchsorted(heights, chance.random() * heights[-1], side="right")), len(heights) - 1)
