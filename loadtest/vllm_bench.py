"""What the service adds: to the raw engine on the same tokens, and to a world model that takes half a second and no work.

    python -m loadtest.vllm_bench            # both, on vLLM's CPU build; writes build/bench_vllm.json

**Over the engine.** Proposals are put to the real service with a recorder between it and vLLM, which notes every request and
when it began and was answered. So it is known which request had to wait for which: the barest client can then ask the engine
the very same bytes in the same order, every future at its own pace, the masked first reading among them, and look at no answer.
Timed without the recorder, the service and the bare client take turns on every proposal, each first as often as second. The
ratio counts all that lies between a caller's request and its answer: HTTP both ways, recall, grounding, the codec, judging, a
durable record. Caller, service and engine share this machine's cores. `warm`: everything has been asked before in both ways, the
engine has read every prompt and the service remembers the vectors of its texts. `cold`: a service just started, and an
engine that is made to forget every prompt before each evaluation in either way.

**Over half a second.** The scripted world takes 100 ms for each of five steps; all else is real: recorded history, encoder, ledger,
keys. What takes longer than 500 ms is the service's, and the timers' that wake late. Callers ask again as soon as they are
answered; they begin spread over the half second. `distinct` proposals are asked once each, `repeated` is one asked again and
again, whose vectors are remembered: the difference is the sentence encoder.
"""

import argparse
import asyncio
import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from rich.console import Console
from rich.table import Table
from tqdm import tqdm, trange

from loadtest.engine import Engine, installed, serving
from loadtest.gpu_bench import BUNDLED, proposals
from loadtest.served import served
from models.validation.machine import machine, revision

Told = dict[str, Any]
WORK, OUT, GPU = Path("build/bench"), Path("build/bench_vllm.json"), Path("build/gpu_bench.json")
EVALUATIONS, COMPLETIONS = "/v1/evaluations", "/v1/completions"
READ = (200, 413, 503)
"""Decided, too long to read, too busy: any other answer ends the run."""
SAID, FORGET = "vllm:generation_tokens_total", "/reset_prefix_cache"
DEVELOPER = {"VLLM_SERVER_DEV_MODE": "1"}
"""Or vLLM forgets nothing when it is told to."""
FUTURES, HORIZON, STEP_MS = 5, 5, 100.0
WHOLE: Told = {"settle": False, "recommend": False, "rollouts": FUTURES, "horizon": HORIZON, "seed": 7}
STRANGERS = 6
"""Asked of a service just started, and not counted: its first answers are slow whatever they are."""
CROWDS, COSTED = (1, 8, 32), 8
"""Callers at once, and how many of them the CPU time is told of."""
ROOTS = 2
"""The first reading, which all futures share, and the masked one; a third request that follows none is no part of an evaluation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: evaluations over the engine, turns each is timed, evaluations of each crowd, recorded history."""

    evaluations: int = 24
    turns: int = 6
    crowd: Mapping[int, int] = field(default_factory=lambda: {1: 60, 8: 320, 32: 960})
    history: int = 3_000


QUICK = Plan(evaluations=2, turns=2, crowd={1: 2, 8: 8, 32: 32}, history=60)


WAYS = ("service", "engine")


# what the service asks of the engine


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it was sent: what the future held when it was answered, and when it began and ended, in seconds."""

    body: bytes
    prompt: tuple[int, ...]
    known: tuple[int, ...]
    began: float
    ended: float

    @classmethod
    def of(cls, body: bytes, answer: bytes, began: float, ended: float) -> "Asked":
        """What was said counts without its last token: whether that is kept is the service's choice."""
        prompt = tuple(json.loads(body)["prompt"])
        said = json.loads(answer)["choices"][0].get("token_ids") or ()
        return cls(body, prompt, (*prompt, *said[:-1]), began, ended)

    def leads_to(self, later: "Asked") -> bool:
        return self.ended <= later.began and later.prompt[: len(self.known)] == self.known != later.prompt


@dataclass(eq=False)
class Branch:
    """A request and those that could only be sent when it was answered."""

    asked: Asked
    root: bool = False
    then: list["Branch"] = field(default_factory=list)


def branches(asked: Sequence[Asked]) -> list[Branch]:
    """The roots. All futures follow the first reading; any other request is followed by one, its own future's next.

    Two futures that have said the same are the same to the engine, whichever of them goes on first.
    """
    found: list[Branch] = []
    for each in sorted(asked, key=lambda each: each.began):
        free = (b for b in found if (b.root or not b.then) and b.asked.leads_to(each))
        before = max(free, key=lambda b: (len(b.asked.known), -b.asked.ended), default=None)
        found.append(Branch(each, root=before is None))
        if before is not None:
            before.then.append(found[-1])
    return [branch for branch in found if branch.root]


class Recorder:
    """Stands before an engine and changes nothing."""

    def __init__(self, engine: str, session: aiohttp.ClientSession) -> None:
        self.asked: list[Asked] = []
        self._engine, self._session = engine, session

    async def pass_on(self, request: web.Request) -> web.Response:
        body, began = await request.read(), time.monotonic()
        kind = {"Content-Type": request.content_type}
        async with self._session.request(
            request.method, f"{self._engine}{request.path_qs}", data=body or None, headers=kind
        ) as answer:
            told = await answer.read()
        if request.path == COMPLETIONS and answer.ok:
            self.asked.append(Asked.of(body, told, began, time.monotonic()))
        return web.Response(body=told, status=answer.status, content_type=answer.content_type)


@contextlib.asynccontextmanager
async def recorded(engine: str) -> AsyncIterator[tuple[Recorder, str]]:
    """A recorder on a free port, and its address."""
    async with client() as session:
        recorder = Recorder(engine, session)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", recorder.pass_on)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield recorder, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def replay(session: aiohttp.ClientSession, roots: Sequence[Branch]) -> None:
    """Every request as soon as those before it are answered."""
    await asyncio.gather(*(_played(session, root) for root in roots))


async def ask(session: aiohttp.ClientSession, asked: Asked) -> None:
    """The very same bytes; what is answered is not looked at."""
    headers = {"Content-Type": "application/json"}
    async with session.post(COMPLETIONS, data=asked.body, headers=headers) as answer:
        answer.raise_for_status()
        await answer.read()


async def _played(session: aiohttp.ClientSession, branch: Branch) -> None:
    await ask(session, branch.asked)
    if len(branch.then) == 1:
        await _played(session, branch.then[0])
    elif branch.then:
        await asyncio.gather(*(_played(session, each) for each in branch.then))


Case = tuple[Told, Sequence[Branch]]
"""A proposal and what the service asks of the engine for it."""


# the service


def client(base: str | None = None, **headers: str) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=120)
    return aiohttp.ClientSession(base, headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))


@contextlib.contextmanager
def environment(told: Mapping[str, str]) -> Iterator[None]:
    """For what is started within."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.asynccontextmanager
async def service(data: Path, history: int, **settings: object) -> AsyncIterator[aiohttp.ClientSession]:
    """The real process with these settings, and a caller with an agent's key."""
    told = {f"PREMORTEM_{name.upper()}": str(value) for name, value in settings.items()}
    with environment(told):
        async with (
            served(data, BUNDLED, history) as there,
            client(str(there.base_url), Authorization=there.headers["Authorization"]) as session,
        ):
            yield session


@dataclass(frozen=True, slots=True)
class Answer:
    """One evaluation as its caller met it."""

    ms: float
    decision: Told

    @property
    def whole(self) -> bool:
        """Whether it is of as many futures as asked for, all of which ran to their own end."""
        rollouts = self.decision.get("rollouts") or {}
        counted = rollouts.get("requested") == rollouts.get("completed") == FUTURES
        return self.decision.get("basis") == "simulated" and counted

    @property
    def grounded(self) -> bool:
        return not self.decision["explanation"]["notes"]


async def put(session: aiohttp.ClientSession, proposal: Told, budget_ms: int) -> Answer:
    body, started = proposal | {"options": WHOLE | {"budget_ms": budget_ms}}, time.perf_counter()
    async with session.post(EVALUATIONS, json=body) as answer:
        told = await answer.read()
        if answer.status not in READ:
            raise RuntimeError(f"HTTP {answer.status}: {told.decode()}")
        took = (time.perf_counter() - started) * 1000
    return Answer(took, json.loads(told) if answer.ok else {})


def bodies() -> Iterator[Told]:
    """Drawn proposals that would be simulated, no two alike, the domains in turn."""
    return (proposal.model_dump(mode="json", include={"domain", "state", "action"}) for proposal in proposals())


# over the engine


async def over_engine(engine: Engine, plan: Plan) -> Told:
    settings = {"world": "vllm", "vllm_model": "world"}
    start = partial(service, WORK / "vllm", plan.history, **settings)
    drawn = bodies()
    strangers = [*islice(drawn, STRANGERS)]
    async with recorded(engine.url) as (recorder, url), start(vllm_urls=url) as asking:
        cases = await record(asking, recorder, drawn, plan.evaluations)
    warm, cold = Turns(engine, cases), Turns(engine, cases)
    async with client(engine.url) as bare:
        async with start(vllm_urls=engine.url) as asking:
            await Turns(engine, cases).take(asking, bare, 0)
            for turn in trange(plan.turns, desc="in turns, warm"):
                await warm.take(asking, bare, turn)
        for turn in trange(plan.turns, desc="in turns, cold"):
            async with start(vllm_urls=engine.url) as asking:
                for body in strangers:
                    await put(asking, body, budget_ms=10_000)
                await cold.take(asking, bare, turn, forgetting=True)
    counts = {
        "evaluations": len(cases),
        "turns": plan.turns,
        "requests": sum(_size(roots) for _, roots in cases),
    }
    return counts | {"warm": warm.told(), "cold": cold.told()}


async def record(asking: aiohttp.ClientSession, recorder: Recorder, drawn: Iterator[Told], count: int) -> list[Case]:
    """Proposals with the requests that they lead to: those that were played as asked, without futures added near the threshold."""
    cases: list[Case] = []
    with tqdm(desc="what the service asks", total=count) as bar:
        for body in drawn:
            recorder.asked.clear()
            answer = await put(asking, body, budget_ms=10_000)
            roots = branches(recorder.asked)
            if answer.whole and len(roots) == ROOTS:
                cases.append((body, roots))
                bar.update()
            if len(cases) == count:
                break
    return cases


@dataclass(eq=False)
class Turns:
    """Both ways of every case: milliseconds, and the tokens that the engine said."""

    engine: Engine
    cases: Sequence[Case]
    times: list[dict[str, list[float]]] = field(default_factory=list)
    tokens: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.times = [{way: [] for way in WAYS} for _ in self.cases]

    async def take(
        self, asking: aiohttp.ClientSession, bare: aiohttp.ClientSession, turn: int, forgetting: bool = False
    ) -> None:
        for (body, roots), case in zip(self.cases, self.times, strict=True):
            for way in WAYS if turn % 2 else WAYS[::-1]:
                if forgetting:
                    async with bare.post(FORGET) as answer:
                        answer.raise_for_status()
                before, started = await self.engine.metric(SAID), time.perf_counter()
                await (put(asking, body, budget_ms=10_000) if way == "service" else replay(bare, roots))
                case[way].append((time.perf_counter() - started) * 1000)
                self.tokens[way] += int(await self.engine.metric(SAID) - before)

    def told(self) -> Told:
        """The ratio is the median over the cases, each of the medians over its turns."""
        pairs = [[median(case[way]) for way in WAYS] for case in self.times]
        return {
            "ratio": round(median(ours / bare for ours, bare in pairs), 4),
            "ratios": _percentiles([ours / bare for ours, bare in pairs], 4),
            "added_ms": _percentiles([ours - bare for ours, bare in pairs]),
            **{f"{way}_ms": _percentiles([ms for case in self.times for ms in case[way]]) for way in WAYS},
            "tokens": dict(self.tokens),
        }


def _size(roots: Sequence[Branch]) -> int:
    return sum(1 + _size(branch.then) for branch in roots)


# over half a second


async def over_script(plan: Plan) -> tuple[Told, str]:
    """By kind and crowd; and when it was, by the service's clock."""
    drawn, told = bodies(), dict[str, Any]()
    async with service(
        WORK / "scripted", plan.history, world="scripted", scripted_latency_ms=STEP_MS, in_flight=2 * max(CROWDS)
    ) as asking:
        one = next(drawn)
        at = str((await put(asking, one, budget_ms=5_000)).decision["at"])
        for kind in ("distinct", "repeated"):
            told[kind] = {}
            for crowd in CROWDS:
                count = plan.crowd[crowd]
                asked = [one] * count if kind == "repeated" else [*islice(drawn, count)]
                told[kind][f"c{crowd}"] = await crowded(asking, asked, crowd)
    return told, at


async def crowded(session: aiohttp.ClientSession, asked: Sequence[Told], crowd: int) -> Told:
    waiting, whole_ms = iter(tqdm(asked, f"{crowd} at once")), STEP_MS * HORIZON
    pid = _service_pid()

    async def caller(number: int) -> list[Answer]:
        await asyncio.sleep(whole_ms / 1000 * number / crowd)
        return [await put(session, body, budget_ms=5_000) for body in waiting]

    before, started = _cpu_ms(pid), time.perf_counter()
    answers = [answer for part in await asyncio.gather(*map(caller, range(crowd))) for answer in part]
    took_s, spent = time.perf_counter() - started, np.subtract(_cpu_ms(pid), before) / len(answers)
    whole = [answer for answer in answers if answer.whole]
    return {
        "n": len(whole),
        "of": len(answers),
        "ungrounded": sum(not answer.grounded for answer in whole),
        "overhead_ms": _percentiles([answer.ms - whole_ms for answer in whole]),
        "cpu_ms": round(float(spent[0]), 2),
        "cpu_ms_loop": round(float(spent[1]), 2),
        "answered_s": round(len(answers) / took_s, 1),
    }


def _service_pid() -> int:
    """Of this process's children, the one that serves."""
    me = os.getpid()
    for child in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        if Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[2:4] == [b"service", b"serve"]:
            return int(child)
    raise RuntimeError("no service was started here")


def _cpu_ms(pid: int) -> tuple[float, float]:
    """CPU time, user and system, of a whole process and of its first thread, where its event loop runs."""
    whole, loop = (
        sum(map(int, Path(path).read_text().rsplit(")", 1)[1].split()[11:13]))
        for path in (f"/proc/{pid}/stat", f"/proc/{pid}/task/{pid}/stat")
    )
    tick_ms = 1000 / os.sysconf("SC_CLK_TCK")
    return whole * tick_ms, loop * tick_ms


# the command


async def measure(plan: Plan) -> Told:
    where = machine()
    scripted, at = await over_script(plan)
    with environment(DEVELOPER):
        async with serving(BUNDLED, WORK / "vllm" / "vllm.log") as engine:
            engined = await over_engine(engine, plan)
    distinct = scripted["distinct"]
    return {
        "date": at[:10],
        "revision": revision(),
        "machine": where,
        "overhead_over_engine": engined["warm"]["ratio"],
        "overhead_over_engine_cold": engined["cold"]["ratio"],
        "service_overhead_ms": {name: row["overhead_ms"]["p50"] for name, row in distinct.items()},
        "cpu_ms_per_evaluation": distinct[f"c{COSTED}"]["cpu_ms"],
        **gpu(GPU),
        "engine": engined,
        "scripted": scripted,
    }


def gpu(path: Path) -> Told:
    """What a GPU was found to take, where one was."""
    told: Told = json.loads(path.read_text()).get("gpu", {}) if path.exists() else {}
    return {"gpu": told} if told and not told["name"].startswith("CPU") else {}


def _percentiles(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{share}": round(float(np.percentile(values, share)), digits) for share in (5, 50, 95, 99)}


def show(told: Told, console: Console) -> None:
    where, engine = told["machine"], told["engine"]
    console.rule(f"[bold]what the service adds, {told['date']}, {told['revision']}")
    console.print(f"{where['processor']}, {where['cores']} cores, load {where['load']} before it began")
    for state in ("warm", "cold"):
        found = engine[state]
        console.print(
            f"over the engine, {state}: [bold]{100 * (found['ratio'] - 1):+.1f} %[/bold] at one client: service p50 "
            f"{found['service_ms']['p50']:.0f} ms, engine p50 {found['engine_ms']['p50']:.0f} ms, "
            f"{engine['evaluations']} evaluations x {engine['turns']}"
        )
    columns = ("p50 ms", "p95 ms", "p99 ms", "CPU ms", "of it loop", "n")
    table = Table(
        "", *columns, title=f"Over {HORIZON} steps of {STEP_MS:.0f} ms, {FUTURES} futures", title_justify="left"
    )
    for kind, rows in told["scripted"].items():
        for name, row in rows.items():
            over = (f"{row['overhead_ms'].get(share, float('nan')):+.1f}" for share in ("p50", "p95", "p99"))
            table.add_row(
                f"{kind}, {name}", *over, str(row["cpu_ms"]), str(row["cpu_ms_loop"]), f"{row['n']}/{row['of']}"
            )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.vllm_bench", description="What the service adds to its engine")
    parser.add_argument("--quick", action="store_true", help="a proof that it works, not a measurement")
    parser.add_argument("--out", type=Path, default=OUT)
    ask = parser.parse_args()
    if not installed():
        parser.error("vLLM's CPU build is not here: make vllm")
    told = asyncio.run(measure(QUICK if ask.quick else Plan()))
    ask.out.parent.mkdir(parents=True, exist_ok=True)
    ask.out.write_text(json.dumps(told, indent=2))
    show(told, Console())


if __name__ == "__main__":
    main()
