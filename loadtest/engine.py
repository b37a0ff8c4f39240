"""The real vLLM on a CPU, in a virtual environment of its own, as `make vllm` installs it: for tests and measurements."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtest.served import free_port

VENV = Path(".vllm")
START_S = 240.0
FLAGS = (
    "--max-model-len=2048",
    "--enforce-eager",
    "--no-enable-chunked-prefill",  # a seeded request whose prompt comes in parts kills the CPU build
    "--distributed-executor-backend=uni",
    "--kv-cache-memory-bytes=256M",
    "--block-size=32",  # the CPU's default of 128 would never share a prompt shorter than that
    "--scheduling-policy=priority",
    "--enable-prompt-tokens-details",
    "--max-logprobs=128",
    "--disable-uvicorn-access-log",
)
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
RUNNING = "vllm:num_requests_running"


def installed(venv: Path = VENV) -> bool:
    return (venv / ".ready").exists()


@dataclass(eq=False)
class Engine:
    """A server that answers. `url` has no path."""

    url: str
    port: int
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """At once, as a crash would, the engine's own process with the server's."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    async def kill(self) -> None:
        await asyncio.to_thread(self.stop)

    async def metric(self, name: str) -> float:
        """The sum over a metric's series, as the engine tells it now."""
        async with httpx.AsyncClient(timeout=30) as client:
            told = (await client.get(f"{self.url}/metrics")).text
        lines = (line.rsplit(" ", 1) for line in told.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(value) for _, value in lines)


async def running(engine: Engine, count: int, patience_s: float = 10.0) -> None:
    """Returns when the engine works on this many requests."""
    until = time.monotonic() + patience_s
    while (now := await engine.metric(RUNNING)) != count:
        if time.monotonic() > until:
            raise TimeoutError(f"{now:g} requests are running, not {count}")
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(checkpoint: Path, log: Path, *flags: str, port: int = 0, venv: Path = VENV) -> AsyncIterator[Engine]:
    """vLLM over a checkpoint folder on a free loopback port, warm: it has answered once. Killed on the way out."""
    engine = await asyncio.to_thread(launch, checkpoint, log, *flags, port=port, venv=venv)
    try:
        yield engine
    finally:
        await engine.kill()


def launch(checkpoint: Path, log: Path, *flags: str, port: int = 0, venv: Path = VENV) -> Engine:
    """As `serving`; whoever launches it stops it."""
    port = port or free_port()
    command = (str(venv / "bin" / "vllm"), "serve", str(checkpoint), "--host=127.0.0.1", f"--port={port}")
    return started((*command, "--served-model-name=world", *FLAGS, *flags), port, log)


def started(command: Sequence[str], port: int, log: Path) -> Engine:
    """Whatever speaks as vLLM does, warm."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as written:
        process = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    engine = Engine(f"http://127.0.0.1:{port}", port, process)
    try:
        _warm(engine, log)
    except BaseException:
        engine.stop()
        raise
    return engine


def _warm(engine: Engine, log: Path) -> None:
    """The first completions compile what they need and take seconds; nobody should be timed by them."""
    asked = {"model": "world", "prompt": [1, 2, 3, 4], "max_tokens": 4, "temperature": 0.5, "seed": 1}
    asked |= {"logprobs": 1, "logprob_token_ids": [1, 2, 3], "logit_bias": {"1": -100.0}}
    until = time.monotonic() + START_S
    with httpx.Client(base_url=engine.url, timeout=START_S) as client:
        while engine.process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/health").status_code == 200:
                    client.post("/v1/completions", json=asked).raise_for_status()
                    return
            time.sleep(0.2)
    raise RuntimeError(f"the engine did not start: {log}")
