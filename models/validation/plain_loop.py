"""The plain loop of the source article on the same weights: one future after another, one step after another, each step a
fresh `generate` of transformers over the whole prompt, everything so far rendered again and nothing kept.

Where the article leaves room the loop is given the cheaper reading: it stops a future at its first terminal or adverse
outcome, writes an observation only where the model feels like it, is never grounded, and may use bfloat16 or float32.
"""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from models.validation.rig import Rig, proposals, rig
from models.validation.speed import HORIZON, WARM_UP, Way, evaluate
from service.domains import catalog
from service.vocabulary.domain import Domain
from service.vocabulary.forecast import Forecast
from service.vocabulary.outcome import Outcome
from service.vocabulary.proposal import Action
from service.world.codec import Codec
from service.world.model import BadForecast, Opening, Turn

FUTURES = 5
STEP_TOKENS = 48
TEMPERATURE = 0.8

Generate = Callable[[list[int]], list[int]]
"""Token ids so far in, the ids of one more step out."""


def generator(model: Any, codec: Codec) -> Generate:
    def step(ids: list[int]) -> list[int]:
        prompt = torch.tensor([ids])
        with torch.inference_mode():
            written = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=STEP_TOKENS,
                do_sample=True,
                temperature=TEMPERATURE,
                eos_token_id=codec.step,
                pad_token_id=codec.pad,
            )
        told: list[int] = written[0, len(ids) :].tolist()
        return told

    return step


def fastest(checkpoint: Path, codec: Codec, sample: list[int]) -> tuple[str, Generate]:
    """In whichever precision this machine is faster at, over the same few steps."""
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, local_files_only=True).eval()
        generate = generator(model, codec)
        generate(sample)
        torch.manual_seed(0)
        started = time.perf_counter()
        written = sum(len(generate(sample)) for _ in range(6))
        found.append(((time.perf_counter() - started) / written, str(dtype).removeprefix("torch."), generate))
    _, name, generate = min(found, key=lambda each: each[0])
    return name, generate


def play(opening: Opening, codec: Codec, generate: Generate) -> int:
    """All futures of one evaluation, in turn; how many tokens were written."""
    return sum(_live(opening, codec, generate) for _ in range(FUTURES))


def _live(opening: Opening, codec: Codec, generate: Generate) -> int:
    domain, state, action = opening.domain, opening.state, opening.action
    turns: list[Turn] = []
    tokens = 0
    while len(turns) < HORIZON:
        written = generate(codec.prompt(opening) + codec.turns(domain, turns))
        tokens += len(written)
        try:
            forecast = _read(domain, codec, written)
        except BadForecast:
            break
        if _over(domain, opening.action, domain.outcomes[forecast.outcome]):
            break
        state = domain.advance(state, action, forecast)
        action = domain.continuation(state)
        turns.append(Turn(forecast, action))
    return tokens


def _read(domain: Domain, codec: Codec, written: list[int]) -> Forecast:
    labels = dict(zip(codec.outcome_ids(domain), domain.outcomes.names, strict=True))
    if not written or written[0] not in labels:
        raise BadForecast("no outcome where an outcome was due")
    changes, observation = codec.read(domain, written[1:])
    return Forecast(labels[written[0]], {}, changes, observation)


def _over(domain: Domain, action: Action, outcome: Outcome) -> bool:
    return outcome.terminal or outcome.severity >= domain.adverse_from(action)


async def measure(checkpoint: Path, work: Path, count: int) -> dict[str, Any]:
    """Both engines take turns on the same proposals, `count` a domain; the ratio is of their medians."""
    async with rig(checkpoint, work) as fresh:
        for domain in catalog().values():
            for proposal in islice(proposals(domain, "warm-up"), WARM_UP):
                await evaluate(fresh, proposal, Way(FUTURES, settle=False))
        warm = await fresh.opening(domain, proposal)
        precision, generate = fastest(checkpoint, fresh.checkpoint.codec, fresh.checkpoint.codec.prompt(warm))
        ours, plain, tokens = await _race(fresh, generate, count)
    return {
        "speedup_over_plain_loop": round(median(plain) / median(ours), 2),
        "plain_loop": {
            "local_p50_ms": round(median(ours), 1),
            "plain_p50_ms": round(median(plain), 1),
            "plain_tokens": round(sum(tokens) / len(tokens), 1),
            "precision": precision,
            "proposals": len(plain),
        },
    }


async def _race(fresh: Rig, generate: Generate, count: int) -> tuple[list[float], list[float], list[int]]:
    drawn = [p for domain in catalog().values() for p in islice(proposals(domain, "test"), count)]
    ours: list[float] = []
    plain: list[float] = []
    tokens: list[int] = []
    for proposal in tqdm(drawn, "beside the plain loop"):
        started = time.perf_counter()
        await evaluate(fresh, proposal, Way(FUTURES, settle=False))
        ours.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        opening = await fresh.opening(catalog()[proposal.domain], proposal)
        tokens.append(play(opening, fresh.checkpoint.codec, generate))
        plain.append((time.perf_counter() - started) * 1000)
    return ours, plain, tokens
