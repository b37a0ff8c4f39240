"""What an evaluation takes on each GPU, computed from how fast its memory is read. Prints Markdown, the assumptions first.

    python deploy/vllm/sizing.py [--measured build/gpu_bench.json]

While a few sequences are written, a pass of the model takes as long as reading every weight once; a crowd's prompts make it
take as long as its arithmetic. What `python -m loadtest.gpu_bench` measured on a GPU stands in a table of its own.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """GB/s that can be got of its memory; GB; tera-operations a second, dense, in 16 and in 8 bits (0: no such cores)."""

    name: str
    bandwidth: float
    memory: float
    tera16: float
    tera8: float
    source: str


@dataclass(frozen=True, slots=True)
class Model:
    """The sizes of Qwen2.5, from its config.json. Heads are of 128."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool

    @property
    def body(self) -> int:
        """Weights of the linear layers, which is what quantisation shrinks."""
        return self.layers * (2 * self.width * 128 * (self.heads + self.kv_heads) + 3 * self.width * self.inner)

    @property
    def head(self) -> int:
        """Weights of the output, read at every pass; the embedding's table is only looked up in."""
        return self.width * self.vocabulary

    @property
    def kv_bytes(self) -> int:
        """Of one token, in bf16."""
        return 2 * self.layers * self.kv_heads * 128 * 2


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of one weight of the body. Output and embedding stay bf16."""

    name: str
    weight_bytes: float
    eight: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """What one evaluation of `futures` x 5 steps asks of the engine. Passes and trips follow one another; the rest is a sum."""

    futures: int
    passes_p50: int
    passes_mean: int
    passes_p95: int
    trips: int
    requests: int
    written: int


DATASHEET = 0.9
"""Share of a datasheet's bandwidth that can be got: 4.3 of 4.8 TB/s were measured on an H200."""
GPUS = (
    Gpu("H200", 4_300, 141, 989, 1_979, "4.3 TB/s measured (datasheet 4.8)"),
    Gpu("H100 SXM", 3_350 * DATASHEET, 80, 989, 1_979, "90 % of 3.35 TB/s, datasheet"),
    Gpu("A100 80 GB SXM", 2_039 * DATASHEET, 80, 312, 0, "90 % of 2.04 TB/s, datasheet; no fp8 arithmetic"),
    Gpu("L4", 300 * DATASHEET, 24, 121, 242, "90 % of 0.30 TB/s, datasheet"),
)
MODELS = (
    Model("1.5B", 28, 1_536, 12, 2, 8_960, 151_936, True),
    Model("3B", 36, 2_048, 16, 2, 11_008, 151_936, True),
    Model("7B", 28, 3_584, 28, 4, 18_944, 152_064, False),
    Model("14B", 48, 5_120, 40, 8, 13_824, 152_064, False),
)
PRECISIONS = (Precision("bf16", 2), Precision("fp8", 1, eight=True), Precision("int4", 0.53))

# Counted once around `models.validation.speed.evaluate`, 40 drawn proposals a domain, nothing settled early, 2026-11-24; no command
# repeats it. `premortem-models bench --only speed` tells passes and tokens over its own 60: 37 and 100 on average.
FIVE = Shape(futures=5, passes_p50=37, passes_mean=42, passes_p95=81, trips=9, requests=30, written=108)

PROMPT = 400
"""Tokens, planned for; the bundled cases take 99 on average, and more than 900 are refused."""
REREAD = 23
"""Tokens a request reads anew beside the prefix cache: half a block of 16, and what was said and done since."""
CONTEXT = PROMPT + 50
"""Tokens a sequence attends to, on average: the bundled checkpoint's futures have lived through 41 tokens when they are asked."""
KEPT = 200
"""Tokens a future keeps of its own at the end of five steps, at most: 144 lived through and 48 being written."""

EFFICIENCY = (0.9, 0.8, 0.7)
"""Share of the bandwidth that an engine's kernels reach: best, planned with, worst."""
ARITHMETIC = 0.5
"""Share of the datasheet's arithmetic that reading prompts reaches; assumed."""
BESIDE_MS = 0.5
"""Of every pass: sampling, launching, what scheduling does not hide; assumed. vLLM 0.6.3 took about 3 ms (Qwen's speed page, A100)."""
TRIP_MS = 5.5
"""A request beside its one pass, client and server on the same machine; measured on vLLM 0.32's CPU build, 2 cores."""
OUTSIDE_MS = 10.0
"""Of every evaluation, outside the engine: encoding the situation, recall, the durable record, HTTP; assumed."""
SERVER_MS = 1.4
"""CPU time of vLLM's API server for a request; measured there too, 48 clients. One process is the default."""
BUDGET_MS = 800.0
"""The shipped policies' `budget_ms`."""
RESERVED, USED = 3.0, 0.9
"""GB for activations and captured graphs (assumed); share of the memory that the scripts let vLLM have."""


def traffic(model: Model, precision: Precision, sequences: float, context: float = CONTEXT) -> float:
    """Bytes read in one pass: every weight once, and each sequence's keys and values."""
    weights = model.body * precision.weight_bytes + model.head * 2
    return weights + sequences * context * model.kv_bytes


def floor_ms(gpu: Gpu, model: Model, precision: Precision, sequences: int, passes: int, context: float) -> float:
    """What no engine can beat."""
    return passes * traffic(model, precision, sequences, context) / gpu.bandwidth / 1e6


def arithmetic_ms(gpu: Gpu, model: Model, precision: Precision, tokens: float) -> float:
    tera = gpu.tera8 if precision.eight and gpu.tera8 else gpu.tera16
    return tokens * 2 * (model.body + model.head) / (tera * ARITHMETIC) / 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """One model in one precision on one GPU, for evaluations of one shape."""

    gpu: Gpu
    model: Model
    precision: Precision
    shape: Shape = FIVE
    efficiency: float = EFFICIENCY[1]

    @property
    def room(self) -> int:
        """Evaluations whose keys and values fit in what the weights leave."""
        embedding = 0 if self.model.tied else self.model.head
        weights = self.model.body * self.precision.weight_bytes + 2 * (self.model.head + embedding)
        free = self.gpu.memory * 1e9 * USED - weights - RESERVED * 1e9
        return max(0, math.floor(free / ((PROMPT + self.shape.futures * KEPT) * self.model.kv_bytes)))

    def pass_ms(self, evaluations: float) -> float:
        """With that many evaluations under way: they share each pass, and one another's prompts."""
        read = traffic(self.model, self.precision, evaluations * self.shape.futures)
        tokens = 2 * PROMPT + self.shape.requests * REREAD + self.shape.written
        worked = arithmetic_ms(self.gpu, self.model, self.precision, evaluations * tokens / self.shape.passes_mean)
        return max(read / (self.gpu.bandwidth * self.efficiency) / 1e6, worked) + BESIDE_MS

    def latency_ms(self, passes: int, evaluations: float = 1) -> float:
        own_prompt = arithmetic_ms(self.gpu, self.model, self.precision, 2 * PROMPT)
        return passes * self.pass_ms(evaluations) + own_prompt + self.shape.trips * TRIP_MS + OUTSIDE_MS

    @property
    def at_once(self) -> int:
        """Evaluations under way at once while the slow one in twenty keeps the budget too."""
        for evaluations in range(1, self.room + 1):
            if self.latency_ms(self.shape.passes_p95, evaluations) > BUDGET_MS:
                return evaluations - 1
        return self.room

    @property
    def per_second(self) -> float:
        """As fast as the GPU allows, or one API server process."""
        by_gpu = self.at_once / self.latency_ms(self.shape.passes_mean, self.at_once) * 1000
        return min(by_gpu, 1000 / (self.shape.requests * SERVER_MS))

    def told(self) -> str:
        if not self.room:
            return "does not fit"
        took = f"{self.latency_ms(self.shape.passes_p50):.0f} ms"
        return f"{took}, {self.per_second:.1f}/s ({self.at_once})" if self.at_once else f"{took}, over budget"


def assumptions() -> Iterator[str]:
    h200, seven, one = GPUS[0], MODELS[2], FIVE
    floors = " / ".join(f"{floor_ms(h200, seven, each, 5, 200, 500):.0f}" for each in PRECISIONS)
    p50 = [Plan(h200, seven, PRECISIONS[1], efficiency=each).latency_ms(one.passes_p50) for each in EFFICIENCY]
    best, planned, worst = (f"{share * 100:.0f}" for share in EFFICIENCY)
    yield "Assumptions:\n"
    yield f"- Memory is read at: {'; '.join(f'{gpu.name} {gpu.source}' for gpu in GPUS)}."
    yield (
        f"- An engine's kernels reach {worst} to {best} % of that; {planned} % is planned with, and {BESIDE_MS:g} ms a pass beside them "
        f"(assumed). For 7B in fp8 on an H200 that spread makes a p50 of {p50[0]:.0f} to {p50[2]:.0f} ms."
    )
    yield f"- Prompts are read at {ARITHMETIC * 100:.0f} % of the datasheet's dense arithmetic (assumed)."
    yield (
        "- Models have Qwen2.5's sizes. Bytes a weight, scales included: "
        f"{', '.join(f'{each.name} {each.weight_bytes:g}' for each in PRECISIONS)}; the output layer stays bf16, and so do keys and "
        f"values ({', '.join(f'{model.name} {model.kv_bytes / 1024:.0f}' for model in MODELS)} KiB a token)."
    )
    yield f"- So 200 passes of 5 sequences take 7B on an H200 at the very least {floors} ms in bf16 / fp8 / int4."
    yield (
        f"- An evaluation is {one.futures} futures of at most 5 steps and a masked first reading, nothing settled early: "
        f"{one.passes_p50} passes one after another (mean {one.passes_mean}, 95 % below {one.passes_p95}), {one.trips} round trips one "
        f"after another, {one.requests} requests, {one.written} tokens written. That is what the bundled checkpoint does, counted over "
        "120 drawn proposals on 2026-11-24; another tokenizer or history writes more or less."
    )
    yield (
        f"- A prompt has {PROMPT} tokens and is read twice, once masked. A request reads {REREAD} tokens anew that the prefix cache does "
        f"not hold, and attends to {CONTEXT}."
    )
    yield (
        f"- A round trip takes {TRIP_MS:g} ms beside its pass, and {SERVER_MS:g} ms of the API server's CPU (measured, vLLM 0.32's CPU "
        f"build, 2 cores); an evaluation takes {OUTSIDE_MS:g} ms outside the engine (assumed)."
    )
    yield (
        f"- As many evaluations at once as fit in {USED * 100:.0f} % of the memory and let 95 % keep {BUDGET_MS:g} ms; over budget: not "
        f"even one alone. One API server process answers at most {1000 / (one.requests * SERVER_MS):.1f} evaluations a second."
    )


def computed() -> Iterator[str]:
    heads = [f"{each.name}: p50, evaluations/s (at once)" for each in PRECISIONS]
    yield f"| GPU | model | {' | '.join(heads)} | source |"
    yield "|---" * (len(heads) + 3) + "|"
    for gpu in GPUS:
        for model in MODELS:
            cells = " | ".join(Plan(gpu, model, each).told() for each in PRECISIONS)
            yield f"| {gpu.name} | {model.name} | {cells} | computed |"


def measured(found: Mapping[str, Any]) -> Iterator[str]:
    """Of `loadtest.gpu_bench`'s file; its `gpu` section is the row. Exits if no evaluation was measured."""
    row = found.get("gpu", found)
    if row.get("p50_ms") is None:
        raise SystemExit("there is no measured evaluation in that file")
    model = row.get("model") or found.get("machine", {}).get("checkpoint", "")
    yield "| GPU | model | p50 ms | p95 ms | p99 ms | floor ms | p50 over floor | source |"
    yield "|---" * 8 + "|"
    figures = [str(row.get(name, "")) for name in ("p50_ms", "p95_ms", "p99_ms", "floor_ms", "ratio_to_floor")]
    yield f"| {' | '.join([row['name'], model, *figures])} | **measured** |"


def page(found: Mapping[str, Any] | None = None) -> Iterator[str]:
    yield from assumptions()
    yield ""
    if found is None:
        yield "No row has been measured on a GPU: **all are computed**.\n"
    else:
        yield from measured(found)
        yield "\nAll other rows are computed.\n"
    yield from computed()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="p50 and evaluations a second by GPU and model size")
    parser.add_argument("--measured", type=Path, help="what `python -m loadtest.gpu_bench` wrote")
    asked = parser.parse_args(arguments)
    found = json.loads(asked.measured.read_text()) if asked.measured else None
    sys.stdout.write("\n".join(page(found)) + "\n")


if __name__ == "__main__":
    main()
