"""What is sent to vLLM's `/v1/completions`, and how the answer reads: token ids in, token ids out.

Every sampling parameter is spelled out: what is left out, vLLM takes from the model's own `generation_config.json`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.world.model import BadForecast
from service.world.step import Words

TOP = 20
"""Log-probabilities asked of an engine that cannot be asked for chosen ids: the most vLLM gives unless it is told otherwise."""
NEVER = -100.0
PLAIN: Mapping[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "add_special_tokens": False,
}

Json = dict[str, Any]


def reading(model: str, prompt: Sequence[int], markers: Sequence[int], exact: bool) -> Json:
    """Asks for the odds of the next token being each of `markers`, and writes nothing that anybody needs."""
    told = {"logprobs": 1, "logprob_token_ids": list(markers)} if exact else {"logprobs": TOP}
    return {**PLAIN, "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, **told} | {
        "return_tokens_as_token_ids": True
    }


def speech(model: str, prompt: Sequence[int], words: Words, seed: int, held: bool) -> Json:
    """Asks for what is to be said next, all but what is `unsayable` if the engine can be held to it."""
    told = {
        **PLAIN,
        "model": model,
        "prompt": [*prompt, *words.after],
        "max_tokens": words.limit,
        "temperature": words.temperature,
        "seed": seed,
        "stop_token_ids": sorted(words.until),
        "return_token_ids": True,
    }
    told |= {"logit_bias": {str(token): NEVER for token in words.unsayable}} if held else {}
    return told | ({"structured_outputs": {"json": words.schema}} if words.schema else {})


def odds(choice: Mapping[str, Any], markers: Sequence[int]) -> NDArray[np.float64]:
    """Log-probabilities in the order of `markers`; -inf where the engine told none. Raises `BadForecast` if it told no odds at all."""
    try:
        told: Mapping[str, float] = choice["logprobs"]["top_logprobs"][0]
        return np.array([float(told.get(f"token_id:{marker}", -np.inf)) for marker in markers])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadForecast("a completion without odds") from error


def said(choice: Mapping[str, Any], words: Words) -> list[int]:
    """The tokens, without the one that ended them. Raises `BadForecast` if nothing did, or if one may not be said."""
    try:
        tokens, ending = [int(token) for token in choice["token_ids"]], choice["finish_reason"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadForecast(f"{words.what} without tokens") from error
    if ending != "stop":
        raise words.endless()
    if not words.unsayable.isdisjoint(tokens):
        raise BadForecast(f"{words.what} with a marker that has no place there")
    return tokens[:-1] if tokens and tokens[-1] in words.until else tokens
