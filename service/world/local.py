"""The bundled checkpoint in process, on CPU.

Every future is its own request. One worker thread serves them all: it takes whatever futures of one evaluation are waiting,
runs them through the engine in one pass, and lets each go its own way. A cancelled future is simply not in the next pass.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.vocabulary.forecast import Forecast
from service.world.checkpoint import Checkpoint
from service.world.model import BadForecast, Opening, Situation, WorldModelUnavailable
from service.world.step import MarkedStep, Step, Words
from service.world.tree import Engine, Tree

Logits = NDArray[np.float32]
Tokens = Generator[list[int], Logits, Forecast]

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
    step: Tokens
    wants: list[int]
    answer: "Future[Forecast]"
    branch: int = -1


class LocalWorldModel:
    """`threads` are the engine's; the answer is the same for equal seeds as long as the batch is the same (int8 is not batch-invariant)."""

    def __init__(self, checkpoint: Checkpoint, threads: int = 1) -> None:
        self.name = f"local:{checkpoint.name}"
        self._codec = checkpoint.codec
        self._engine = Engine(checkpoint.graph, threads)
        self._vocabulary_size = self._engine.vocabulary_size
        self._stages: OrderedDict[int, Stage] = OrderedDict()
        self._jobs: list[Job] = []
        self._awake = threading.Condition()
        self._closed = False
        self.passes = 0
        self.tokens_written = 0
        self._worker = threading.Thread(target=self._serve, name="world-local", daemon=True)
        self._worker.start()

    async def forecast(self, situation: Situation) -> Forecast:
        stage = self._stage(situation.opening)
        step = write_step(MarkedStep(self._codec, situation), self._vocabulary_size)
        job = Job(stage, situation.seed, step, next(step), Future())
        with self._awake:
            if self._closed:
                raise WorldModelUnavailable("the local world model is closed")
            self._jobs.append(job)
            self._awake.notify()
        return await asyncio.wrap_future(job.answer)

    @property
    def servers(self) -> Mapping[str, str]:
        return {}

    async def trouble(self) -> str:
        return "" if self._worker.is_alive() and not self._closed else "the local world model is closed"

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
            stage.tree = self._engine.tree(stage.prompt, ROOM, stage.opening.tenant)
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


def write_step(step: Step, vocabulary_size: int) -> Tokens:
    """Yields the tokens to read next, receives the logits after them, and returns the forecast."""
    step.read((yield list(step.ahead))[list(step.markers)])
    while words := step.due():
        step.hear((yield from _say(words, vocabulary_size)))
    return step.forecast()


def _say(words: Words, vocabulary_size: int) -> Generator[list[int], Logits, list[int]]:
    """Token by token; what was said before stands in the engine already, all but its last token."""
    forbidden = np.zeros(vocabulary_size, dtype=bool)
    forbidden[list(words.unsayable)] = True
    said: list[int] = []
    unread = words.after[-1]
    while (token := draw((yield [unread]), words.chance, words.temperature, forbidden)) not in words.until:
        said.append(token)
        unread = token
        if len(said) >= words.limit:
            raise words.endless()
    return said


def draw(logits: Logits, chance: np.random.Generator, temperature: float, forbidden: NDArray[np.bool_]) -> int:
    scaled = np.where(forbidden, -np.inf, logits / temperature)
    heights = np.exp(scaled - scaled.max()).cumsum()
    return min(int(np.searchsorted(heights, chance.random() * heights[-1], side="right")), len(heights) - 1)
