"""Waits until a vLLM server answers, then asks every model it serves what the service will ask: exit 0 when it is warm, 1 if not.

    python deploy/vllm/warm.py [--url http://127.0.0.1:8001] [--wait 900]

CUDA graphs are captured before /health answers; what is compiled at first use (sampling with a bias, odds of chosen ids) is
compiled here and not under a caller's budget. With `--wait 0` it is a container's start-up probe. VLLM_API_KEY is honoured.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PATIENCE_S = 120.0
"""With one answer: the first compiles what it needs."""
PAUSE_S = 1.0
PROMPT = list(range(4, 304))
"""As long as a real one; ids that every vocabulary has."""
Json = dict[str, Any]


def requests(model: str) -> Iterator[Json]:
    """The two that a step is made of: the odds of chosen ids, then words with some ids forbidden."""
    yield {"model": model, "prompt": PROMPT, "max_tokens": 1, "temperature": 0.0} | {
        "logprobs": 1,
        "logprob_token_ids": list(range(34)),
        "return_tokens_as_token_ids": True,
    }
    yield {"model": model, "prompt": PROMPT, "max_tokens": 16, "temperature": 0.8, "seed": 1, "ignore_eos": True} | {
        "logit_bias": {"0": -100.0},
        "return_token_ids": True,
    }


def ask(url: str, body: Mapping[str, Any] | None = None) -> Any:
    """Raises `OSError`, which every failure of urllib is."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("VLLM_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE_S) as answer:
        told = answer.read()
    return json.loads(told) if told else None


def healthy(url: str, wait_s: float) -> str:
    """Why it is not, after so long; empty if it is."""
    until = time.monotonic() + wait_s
    while True:
        try:
            ask(f"{url}/health")
            return ""
        except OSError as error:
            if time.monotonic() >= until:
                return str(error)
        time.sleep(PAUSE_S)


def warm(url: str) -> Iterator[str]:
    """A line for each model. Twice each: the first time compiles, the second tells how long it takes from now on."""
    for model in (each["id"] for each in ask(f"{url}/v1/models")["data"]):
        for body in (*requests(model), *requests(model)):
            started = time.monotonic()
            choice = ask(f"{url}/v1/completions", body)["choices"][0]
            if choice["finish_reason"] != "length":
                raise OSError(f"{model} ended with {choice['finish_reason']}")
        yield f"{model}: {body['max_tokens']} tokens in {(time.monotonic() - started) * 1000:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="waits for a vLLM server and warms it up")
    parser.add_argument("--url", default="http://127.0.0.1:8001")
    parser.add_argument("--wait", type=float, default=900.0, help="seconds until it must be healthy")
    asked = parser.parse_args(arguments)
    url = asked.url.rstrip("/")
    if trouble := healthy(url, asked.wait):
        sys.stderr.write(f"{url}: {trouble}\n")
        return 1
    try:
        for line in warm(url):
            sys.stdout.write(f"{line}\n")
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"{url}: {error}: {error.read().decode(errors='replace')[:300]}\n")
        return 1
    except (OSError, LookupError, ValueError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
