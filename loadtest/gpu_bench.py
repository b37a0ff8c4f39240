"""What an evaluation costs on one GPU: the engine alone, the whole service on it, the article's plain loop on the same engine.

    python -m loadtest.gpu_bench --make-model build/world-7b                        # a 7 B model that says what `mini` says
    python -m loadtest.gpu_bench --checkpoint build/world-7b --vllm-command vllm    # everything; see deploy/vllm/gpu_bench.md
    python -m loadtest.gpu_bench --quick                                            # the harness itself, on vLLM's CPU build

The engine's sections ask for fixed numbers of tokens, whatever they are: dummy weights would do. The service's need a model whose
outcomes can be read and whose steps end; `loadtest/large_body.py` makes one of the size to be timed.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import shlex
import time
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from loadtest.accuracy import high_impact
from loadtest.engine import ENVIRONMENT, FLAGS, VENV, installed
from loadtest.large_body import BODIES, make_model
from loadtest.served import free_port, served
from service.domains import catalog
from service.vocabulary.proposal import Proposal
from service.vocabulary.reference import Split
from service.world.checkpoint import Checkpoint
from service.world.model import Opening

Told = dict[str, Any]
BUNDLED, WORK = Path("models/checkpoints/mini"), Path("build/gpu_bench")
GPU_FLAGS = (
    "--dtype=bfloat16",
    "--max-model-len=2048",
    "--gpu-memory-utilization=0.85",
    "--scheduling-policy=priority",
    "--enable-prompt-tokens-details",
    "--max-logprobs=128",
    "--generation-config=vllm",
    "--disable-uvicorn-access-log",
)
GPU_ENVIRONMENT = {"VLLM_USE_FLASHINFER_SAMPLER": "0", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
"""FlashInfer's sampler ends the start where FlashInfer is missing, and nothing here asks for what it does."""
WORK_DONE = ("iteration_tokens_total_count", "generation_tokens_total")
GUESSED = ("spec_decode_num_accepted_tokens_total", "spec_decode_num_draft_tokens_total")
NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
START_S, STOP_S = 900.0, 30.0
BATCHES, CROWDS, FUTURES, HORIZON = (1, 5, 10, 50), (1, 4, 16, 64), (5, 10), 5
PLAIN_FUTURES, PLAIN_TOKENS = 5, 40
SEQUENCE = HORIZON * PLAIN_TOKENS
"""The article's loop: 200 tokens follow one another in a future."""
PATIENT = {"budget_ms": 30_000, "recommend": False}
"""A time that the budget cut off would be no measurement."""
WARM_UP = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: tokens a sequence, repeats of a batch, evaluations of each way, plain loops, rounds of a crowd; recorded
    trajectories a domain, and how long the service may take to index them and be ready; bytes a weight of the layers."""

    tokens: int = 200
    repeats: int = 5
    evaluations: int = 200
    plain: int = 10
    rounds: int = 10
    history: int = 3_000
    ready_s: float = 600.0
    layer_bytes: float = 2.0


QUICK = Plan(tokens=48, repeats=1, evaluations=6, plain=1, rounds=2, history=300, ready_s=60.0)


@dataclass(eq=False)
class Engine:
    """vLLM as it is asked without the service: token ids in, a fixed number of token ids out."""

    http: httpx.AsyncClient

    async def say(self, ids: Sequence[int], tokens: int, salt: str = "shared") -> list[int]:
        """What was read under a salt need not be read again under it."""
        asked = {"model": "world", "prompt": ids, "max_tokens": tokens, "temperature": 0.8, "ignore_eos": True}
        answer = await self.http.post("/v1/completions", json=asked | {"return_token_ids": True, "cache_salt": salt})
        answer.raise_for_status()
        said: list[int] = answer.json()["choices"][0]["token_ids"]
        if len(said) != tokens:
            raise RuntimeError(f"{len(said)} tokens where {tokens} were asked for")
        return said

    async def timed_s(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Until the last of a batch has said its tokens."""
        started = time.perf_counter()
        await asyncio.gather(*(self.say(ids, tokens) for ids in prompts))
        return time.perf_counter() - started

    async def counted(self, *names: str) -> tuple[float, ...]:
        """Each of these metrics since the engine started; 0 for one that it does not have."""
        lines = [line.rsplit(" ", 1) for line in (await self.http.get("/metrics")).text.splitlines()]
        return tuple(sum(float(told) for name, told in lines if name.startswith(f"vllm:{each}{{")) for each in names)


@dataclass(eq=False)
class Bench:
    """A running engine, and what is asked of it. `told` holds the sections measured before."""

    engine: Engine
    folder: Path
    checkpoint: Checkpoint
    plan: Plan
    told: Told

    def prompt(self, proposal: Proposal) -> list[int]:
        opening = Opening(catalog()[proposal.domain], proposal.state, proposal.action)
        return self.checkpoint.codec.prompt(opening)


Section = Callable[[Bench], Awaitable[Told]]


def proposals() -> Iterator[Proposal]:
    """Drawn proposals that would be simulated, the domains in turn."""
    for drawn in zip(*(high_impact(name, Split.seen) for name in catalog()), strict=True):
        for (name, domain), (_, scenario) in zip(catalog().items(), drawn, strict=True):
            proposal = Proposal(domain=name, state=scenario.state, action=scenario.action)
            if not domain.hard_rules(proposal):
                yield proposal


# the machine and the engine alone


async def machine(bench: Bench) -> Told:
    version = (await bench.engine.http.get("/version")).json()["version"]
    cores = len(os.sched_getaffinity(0))
    return {"name": _processor(), "cores": cores, "vllm": version, "checkpoint": bench.checkpoint.name}


def _processor() -> str:
    torch = _torch()
    if torch and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"CPU: {next(model, platform.machine())}"


def _torch() -> Any:
    with contextlib.suppress(ImportError):
        import torch

        return torch
    return None


async def floor(bench: Bench) -> Told:
    """What no engine can beat: every weight is read once a pass. Keys and values, which are read too, are left out."""
    config = json.loads((bench.folder / "config.json").read_text())
    weights, bandwidth = weight_bytes(config, bench.plan.layer_bytes), bandwidth_bytes_s()
    return {
        "bandwidth_gb_s": round(bandwidth / 1e9, 1),
        "weights_gb": round(weights / 1e9, 3),
        "ms_per_pass": round(weights / bandwidth * 1000, 4),
    }


def weight_bytes(config: Mapping[str, Any], layer_bytes: float) -> float:
    """What a pass reads: all but the embedding's rows of tokens not there. The head stays bf16 when layers are quantised."""
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    attention = 2 * width * head * (heads + config["num_key_value_heads"])
    layer = attention + 3 * width * inner
    return float(layer_bytes * config["num_hidden_layers"] * layer + 2 * width * config["vocab_size"])


def bandwidth_bytes_s() -> float:
    """The best of reading (a sum) and copying, over far more than any cache holds."""
    torch = _torch()
    if not torch:
        raise RuntimeError("the floor needs torch")
    there = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = torch.ones(2**28 if there.type == "cuda" else 2**26, device=there)
    target = torch.empty_like(source)
    size: int = source.numel() * source.element_size()
    return max(size / _shortest_s(source.sum, torch), 2 * size / _shortest_s(lambda: target.copy_(source), torch))


def _shortest_s(work: Callable[[], object], torch: Any) -> float:
    times: list[float] = []
    for _ in range(12):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


async def steps(bench: Bench) -> Told:
    """ms a decode step: what `tokens` more tokens add to a batch whose prompts have been read."""
    told, tokens = {}, bench.plan.tokens
    asked = [bench.prompt(proposal) for proposal in islice(proposals(), max(BATCHES))]
    for batch in BATCHES:
        prompts = asked[:batch]
        await bench.engine.timed_s(prompts, WARM_UP)
        short = median([await bench.engine.timed_s(prompts, 1) for _ in range(bench.plan.repeats)])
        whole = median([await bench.engine.timed_s(prompts, 1 + tokens) for _ in range(bench.plan.repeats)])
        step_ms = (whole - short) / tokens * 1000
        told[str(batch)] = {"ms_per_step": round(step_ms, 3), "tokens_s": round(batch / step_ms * 1000)}
        told[str(batch)] |= {f"ms_of_{SEQUENCE}": round(step_ms * SEQUENCE, 1)} | _beside_the_floor(bench, step_ms, 1)
    return told


def _beside_the_floor(bench: Bench, ms: float, passes: float) -> Told:
    least = bench.told.get("floor", {}).get("ms_per_pass", 0.0) * passes
    return {"floor_ms": round(least, 2), "ratio_to_floor": round(ms / least, 2)} if least else {}


async def plain_loop(bench: Bench) -> Told:
    """The article's: future after future, step after step, each a request that writes it out; nothing read is kept; a vote."""
    times, salts = [], itertools.count()
    for proposal in tqdm([*islice(proposals(), bench.plan.plain)], "the plain loop"):
        started = time.perf_counter()
        await _vote(bench, proposal, salts)
        times.append((time.perf_counter() - started) * 1000)
    return {"n": len(times), "tokens": PLAIN_FUTURES * SEQUENCE, **_percentiles(times)}


async def _vote(bench: Bench, proposal: Proposal, salts: Iterator[int]) -> float:
    """The share of futures in which harm was written."""
    domain, codec = catalog()[proposal.domain], bench.checkpoint.codec
    adverse = domain.outcomes.at_least(domain.adverse_from(proposal.action))
    harm = {id for id, name in zip(codec.outcome_ids(domain), domain.outcomes.names, strict=True) if name in adverse}
    then, bad = codec.action(domain.continuation(proposal.state)), 0
    for _ in range(PLAIN_FUTURES):
        told = bench.prompt(proposal)
        start = len(told)
        for _ in range(HORIZON):
            told += await bench.engine.say(told, PLAIN_TOKENS, f"plain-{os.getpid()}-{next(salts)}")
            told += then
        bad += not harm.isdisjoint(told[start:])
    return bad / PLAIN_FUTURES


def _percentiles(times_ms: Sequence[float]) -> Told:
    shares = (50, 95, 99)
    return {f"p{share}_ms": round(float(np.percentile(times_ms, share)), 1) for share in shares if len(times_ms)}


# the whole service


@dataclass(frozen=True, slots=True)
class Answer:
    """One evaluation as the caller met it."""

    ms: float
    status: int
    decision: Told

    @property
    def basis(self) -> str:
        return str(self.decision.get("basis", f"refused {self.status}"))

    @property
    def faults(self) -> int:
        return int((self.decision.get("rollouts") or {"faults": 0})["faults"])

    @property
    def fewer(self) -> bool:
        """Whether it was simulated with less than its domain asks for, because there were many at once."""
        if self.basis != "simulated":
            return False
        asked = catalog()[self.decision["domain"]].policy.rollouts
        return int(self.decision["rollouts"]["requested"]) < asked

    def played(self, futures: int) -> bool:
        """Whether it is an evaluation of as many futures as asked for, all of which could be read."""
        asked = self.basis == "simulated" and self.decision["rollouts"]["requested"] == futures
        return asked and not self.faults


@contextlib.asynccontextmanager
async def service(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """The real process, its world model behind this engine; warm."""
    url = str(bench.engine.http.base_url).rstrip("/")
    os.environ |= {"PREMORTEM_WORLD": "vllm", "PREMORTEM_VLLM_URLS": url, "PREMORTEM_VLLM_MODEL": "world"}
    async with contextlib.AsyncExitStack() as closing:
        async with asyncio.timeout(bench.plan.ready_s):
            starting = served(WORK / "service", bench.folder, bench.plan.history)
            client = await closing.enter_async_context(starting)
        for proposal in islice(proposals(), WARM_UP):
            await put(client, proposal, PATIENT)
        yield client


async def put(client: httpx.AsyncClient, proposal: Proposal, options: Told) -> Answer:
    body = proposal.model_dump(mode="json", include={"domain", "state", "action"})
    started = time.perf_counter()
    answer = await client.post("/v1/evaluations", json=body | {"options": options})
    took = (time.perf_counter() - started) * 1000
    if answer.status_code not in (200, 413, 503):
        answer.raise_for_status()
    return Answer(took, answer.status_code, answer.json() if answer.status_code == 200 else {})


async def evaluations(bench: Bench) -> Told:
    async with service(bench) as client:
        return {
            f"{futures}x{HORIZON}{', settled' if settle else ''}": await way(bench, client, futures, settle)
            for futures in FUTURES
            for settle in (False, True)
        }


async def way(bench: Bench, client: httpx.AsyncClient, futures: int, settle: bool) -> Told:
    """One after another. Times are of those that played as asked: neither with futures added, nor with any unreadable."""
    options = PATIENT | {"rollouts": futures, "horizon": HORIZON, "settle": settle}
    faults, times, work = 0, [], []
    for proposal in tqdm([*islice(proposals(), WARM_UP, WARM_UP + bench.plan.evaluations)], f"{futures} futures"):
        before = await bench.engine.counted(*WORK_DONE)
        answer = await put(client, proposal, options)
        faults += answer.faults
        if answer.played(futures):
            times.append(answer.ms)
            work.append(np.subtract(await bench.engine.counted(*WORK_DONE), before))
    told: Told = {"n": len(times), "of": bench.plan.evaluations, "faults": faults}
    if times:
        passes, tokens = (float(each) for each in np.median(work, axis=0))
        told |= _percentiles(times) | {"passes": passes, "tokens": tokens}
        told |= _beside_the_floor(bench, median(times), passes)
    return told


async def concurrency(bench: Bench) -> Told:
    """Each of a crowd asks again as soon as it is answered, with the domains' own policies and budgets."""
    told = {}
    async with service(bench) as client:
        for crowd in CROWDS:
            waiting = islice(proposals(), WARM_UP, WARM_UP + crowd * bench.plan.rounds)
            started = time.perf_counter()
            parts = await asyncio.gather(*(_ask_on(client, waiting) for _ in range(crowd)))
            told[str(crowd)] = _crowded([*itertools.chain(*parts)], time.perf_counter() - started)
    return told


async def _ask_on(client: httpx.AsyncClient, waiting: Iterator[Proposal]) -> list[Answer]:
    return [await put(client, proposal, {}) for proposal in waiting]


def _crowded(answers: Sequence[Answer], took_s: float) -> Told:
    times = [answer.ms for answer in answers if answer.status == 200]
    bases, shares = Counter(answer.basis for answer in answers), ("simulated", "history_only", "none", "refused 503")
    told: Told = {"n": len(answers), "answered_s": round(len(times) / took_s, 2), **_percentiles(times)}
    told |= {name: round(bases[name] / len(answers), 3) for name in shares}
    return told | {"fewer futures": round(sum(answer.fewer for answer in answers) / len(answers), 3)}


SECTIONS: Mapping[str, Section] = {
    "machine": machine,
    "floor": floor,
    "steps": steps,
    "plain_loop": plain_loop,
    "service": evaluations,
    "concurrency": concurrency,
}


def summary(told: Told) -> Told:
    """The figures an evaluation of five whole futures is judged by."""
    found, batch = told.get("service", {}).get(f"5x{HORIZON}", {}), told.get("steps", {}).get("5", {})
    names = ("p50_ms", "p95_ms", "p99_ms", "floor_ms", "ratio_to_floor")
    gpu: Told = {"name": _processor()} | {name: found[name] for name in names if name in found}
    plain = told.get("plain_loop", {}).get("p50_ms")
    if plain and found.get("p50_ms"):
        gpu["speedup_over_plain_loop"] = round(plain / found["p50_ms"], 2)
    if plain and batch:
        gpu["speedup_at_equal_tokens"] = round(plain / batch[f"ms_of_{SEQUENCE}"], 2)
    return gpu


# the command


@contextlib.asynccontextmanager
async def started(ask: argparse.Namespace, *flags: str) -> AsyncIterator[str]:
    """The address of an engine that answers: the one named, or one of its own, which ends with the measurement."""
    if ask.engine:
        yield ask.engine
        return
    if not ask.vllm_command and not installed():
        raise RuntimeError("vLLM's CPU build is not here (`make vllm`): give --engine or --vllm-command")
    command = shlex.split(ask.vllm_command) or [str(VENV / "bin" / "vllm")]
    usual, environment = (GPU_FLAGS, GPU_ENVIRONMENT) if ask.vllm_command else (FLAGS, ENVIRONMENT)
    url, log = f"http://127.0.0.1:{(port := free_port())}", WORK / "vllm.log"
    told = ("serve", str(ask.checkpoint), "--host=127.0.0.1", f"--port={port}", "--served-model-name=world", *usual)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as written:
        process = await asyncio.create_subprocess_exec(
            *(*command, *told, *shlex.split(ask.vllm_flags), *flags),
            env=os.environ | environment,
            stdin=DEVNULL,
            stdout=written,
            stderr=written,
        )
        try:
            await _answers(url, process, log)
            yield url
        finally:
            await _stop(process)


async def _answers(url: str, process: Process, log: Path) -> None:
    async with asyncio.timeout(START_S), httpx.AsyncClient(base_url=url) as client:
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(0.5)
    raise RuntimeError(f"vLLM did not start: {log}")


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_S)
    if process.returncode is None:
        process.kill()
        await process.wait()


async def measure(url: str, folder: Path, plan: Plan, sections: Mapping[str, Section], told: Told) -> None:
    """Fills `told`, section by section. One that fails says why, and the rest goes on."""
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=httpx.Limits(max_connections=None)) as client:
        bench = Bench(Engine(client), folder, Checkpoint(folder), plan, told)
        for name, section in sections.items():
            try:
                told[name] = await section(bench)
            except TimeoutError:
                told[name] = {"skipped": f"not ready in time: {WORK}"}
            except (RuntimeError, OSError, httpx.HTTPError) as error:
                told[name] = {"skipped": str(error) or type(error).__name__}
            print(page({name: told[name]}), flush=True)


async def run(ask: argparse.Namespace) -> Told:
    plan, told = replace(QUICK if ask.quick else Plan(), layer_bytes=ask.layer_bytes), dict[str, Any]()
    chosen = ask.only.split(",") if ask.only else [*SECTIONS, "speculation"]
    async with started(ask) as url:
        await measure(url, ask.checkpoint, plan, {name: SECTIONS[name] for name in SECTIONS if name in chosen}, told)
    if "speculation" in chosen:
        print("# with speculation\n")
        told["speculation"] = await speculation(ask, plan, told)
        if why := told["speculation"].get("skipped"):
            print(f"skipped: {why}\n")
    return told | {"gpu": summary(told)}


async def speculation(ask: argparse.Namespace, plan: Plan, told: Told) -> Told:
    """Steps and service once more, on an engine that guesses ahead from the prompt: a step is then a token."""
    if ask.engine:
        return {"skipped": "a running engine is not started again: give --vllm-command"}
    again: Told = {name: told[name] for name in ("floor",) if name in told}
    try:
        async with started(ask, f"--speculative-config={json.dumps(NGRAM)}") as url:
            sections = {"steps": steps, "guesses": guesses, "service": evaluations}
            await measure(url, ask.checkpoint, plan, sections, again)
    except (RuntimeError, TimeoutError) as error:
        return {"skipped": str(error)}
    return {name: again[name] for name in sections}


async def guesses(bench: Bench) -> Told:
    accepted, drafted = await bench.engine.counted(*GUESSED)
    return {"accepted": round(accepted / drafted, 3)} if drafted else {}


def page(told: Told, level: int = 2) -> str:
    """Markdown: a section of rows is a table, a section of values a line."""
    parts = []
    for name, section in told.items():
        rows = {key: row for key, row in section.items() if isinstance(row, dict)}
        parts.append(f"{'#' * level} {name}\n")
        if any(isinstance(value, dict) for row in rows.values() for value in row.values()):
            parts.append(page(rows, level + 1))
        elif rows:
            parts.append(_table(rows))
        else:
            parts.append(", ".join(f"{key} {value}" for key, value in section.items()) + "\n")
    return "\n".join(parts)


def _table(rows: Mapping[str, Told]) -> str:
    heads = [*dict.fromkeys(head for row in rows.values() for head in row)]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(str(row.get(head, '')) for head in heads)} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.gpu_bench", description="What an evaluation costs on one GPU")
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED, help="the model's folder, weights included")
    parser.add_argument("--engine", default="", help="the address of a vLLM that serves it as `world` already")
    parser.add_argument("--vllm-command", default="", help="how vLLM is started (default: its CPU build in .vllm)")
    parser.add_argument("--vllm-flags", default="", help="more flags for it")
    parser.add_argument("--layer-bytes", type=float, default=2.0, help="a weight: 1 if they give fp8, 0.53 int4")
    parser.add_argument("--only", default="", help=f"of {','.join((*SECTIONS, 'speculation'))}")
    parser.add_argument("--quick", action="store_true", help="a proof that it works, not a measurement")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_bench.json"))
    parser.add_argument("--make-model", type=Path, help="write --checkpoint in a larger body here, and end")
    parser.add_argument("--shape", choices=BODIES, default="qwen2.5-7b")
    ask = parser.parse_args()
    if ask.make_model:
        make_model(ask.checkpoint, ask.make_model, ask.shape)
        return
    told = asyncio.run(run(ask))
    ask.out.parent.mkdir(parents=True, exist_ok=True)
    ask.out.write_text(json.dumps(told, indent=2))
    print(page({"gpu": told["gpu"]}))


if __name__ == "__main__":
    main()
