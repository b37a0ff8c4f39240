"""The serve scripts against the parser of the real vLLM, the warm-up against the real server, the sizing against its page."""

import asyncio
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loadtest.engine import ENVIRONMENT, VENV, installed
from loadtest.served import free_port
from service.world.completions import TOP

ROOT = Path(__file__).parents[2]
VLLM = ROOT / "deploy" / "vllm"
SCRIPTS = ("h200", "a100", "l4")
CHECKPOINT = ROOT / "models" / "checkpoints" / "mini"
ON_CPU = (
    "--enforce-eager",
    "--distributed-executor-backend=uni",
    "--kv-cache-memory-bytes=256M",
    "--block-size=32",
)
PARSE = """
import json, sys
from vllm import envs
from vllm.config.quantization import ONLINE_QUANT_SHORTHAND_NAMES
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser, told = make_arg_parser(FlexibleArgumentParser()), {}
for name, arguments in json.load(sys.stdin).items():
    parsed = parser.parse_args(arguments)
    validate_parsed_serve_args(parsed)
    told[name] = {key: repr(value) for key, value in vars(parsed).items()}
known = {"variables": list(envs.environment_variables), "quantisers": list(ONLINE_QUANT_SHORTHAND_NAMES)}
print("PARSED" + json.dumps([told, known]))
"""
needs_vllm = pytest.mark.skipif(not installed(ROOT / VENV), reason="vLLM's CPU build is not installed: `make vllm`")


def run(script: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {
        name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "QUANTIZATION", "SPECULATE")
    }
    told |= {"CHECKPOINT": str(CHECKPOINT), "DRY_RUN": "1"} | environment
    return subprocess.run([VLLM / f"{script}.sh", *flags], env=told, capture_output=True, text=True, timeout=30)


def arguments(script: str, *flags: str, **environment: str) -> list[str]:
    """Without `vllm serve`."""
    ran = run(script, *flags, **environment)
    assert ran.returncode == 0, ran.stderr
    command, serve, *told = ran.stdout.splitlines()
    assert (command, serve) == (environment.get("VLLM", "vllm"), "serve")
    return told


@pytest.fixture(scope="module")
def readme() -> str:
    return (VLLM / "README.md").read_text()


@pytest.fixture(scope="module")
def sizing() -> Mapping[str, Any]:
    return runpy.run_path(str(VLLM / "sizing.py"), run_name="sizing")


def printed(*asked: str) -> str:
    ran = subprocess.run([sys.executable, VLLM / "sizing.py", *asked], capture_output=True, text=True, check=True)
    return ran.stdout


# the scripts


@pytest.mark.parametrize("script", [*SCRIPTS, "serve"])
def test_every_script_is_bash_that_parses_and_may_be_run(script: str) -> None:
    path = VLLM / f"{script}.sh"
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK)


@needs_vllm
def test_the_real_parser_takes_every_script_and_reads_what_was_meant() -> None:
    lora = ("--enable-lora", "--max-loras=3", "--max-lora-rank=16", "--lora-modules", "helpdesk=/a", "safety=/b")
    asked = {script: arguments(script) for script in SCRIPTS}
    asked |= {"lora": arguments("h200", *lora), "speculating": arguments("h200", SPECULATE="1")}
    python = ROOT / VENV / "bin" / "python"
    ran = subprocess.run([python, "-c", PARSE], input=json.dumps(asked), capture_output=True, text=True, timeout=120)
    line = next((line for line in ran.stdout.splitlines() if line.startswith("PARSED")), "")
    assert line, ran.stderr[-2_000:]
    parsed, known = json.loads(line.removeprefix("PARSED"))
    for script in SCRIPTS:
        read = parsed[script]
        assert read["model_tag"] == repr(str(CHECKPOINT)) and read["served_model_name"] == "['world']"
        assert (
            int(read["max_num_seqs"]) < int(read["max_num_queued_reqs"])
            and read["performance_mode"] == "'interactivity'"
        )
        assert read["quantization"].strip("'") in known["quantisers"], "made while loading, from a checkpoint in bf16"
    assert "helpdesk" in parsed["lora"]["lora_modules"] and "ngram_gpu" in parsed["speculating"]["speculative_config"]
    exported = set(re.findall(r"\b(VLLM_\w+)=", (VLLM / "serve.sh").read_text()))
    assert exported and exported <= set(known["variables"]), (
        "the flag that refuses unknown variables refuses none of ours"
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_the_service_relies_on_is_asked_of_every_gpu(script: str) -> None:
    told = dict(flag.removeprefix("--").partition("=")[::2] for flag in arguments(script))
    assert told["scheduling-policy"] == "priority" and told["generation-config"] == "vllm"
    assert told["logprobs-mode"] == "raw_logprobs" and int(told["max-logprobs"]) >= TOP
    assert int(told["max-model-len"]) >= 2_048
    assert "speculative-config" not in told, "vLLM refuses the service's logit_bias beside it"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_server_listens_on_loopback_unless_told_otherwise(script: str) -> None:
    assert "--host=127.0.0.1" in arguments(script)
    assert "--host=0.0.0.0" in arguments(script, HOST="0.0.0.0")


def test_a_checkpoint_already_quantised_is_left_as_it_is() -> None:
    assert not [flag for flag in arguments("a100", QUANTIZATION="") if flag.startswith("--quantization")]


def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    ran = run("h200", CHECKPOINT=str(tmp_path))
    assert ran.returncode != 0 and "no config.json" in ran.stderr and ran.stdout == ""


def test_what_is_common_does_not_serve_by_itself() -> None:
    ran = run("serve")
    assert ran.returncode != 0 and "h200.sh" in ran.stderr


def test_the_readme_gives_a_reason_for_every_flag_and_variable(readme: str) -> None:
    flags = {
        flag.partition("=")[0] for script in SCRIPTS for flag in arguments(script, SPECULATE="1") if flag[:2] == "--"
    }
    variables = set(
        re.findall(r"\b([A-Z][A-Z_]+)=\d", "\n".join(re.findall(r"^export .*", (VLLM / "serve.sh").read_text(), re.M)))
    )
    assert len(flags) > 15 and len(variables) == 5
    assert not {each for each in flags | variables if each not in readme}


# warming up


def test_warming_up_a_server_that_is_not_there_fails_with_the_reason() -> None:
    asked = [sys.executable, str(VLLM / "warm.py"), "--wait", "0", "--url", f"http://127.0.0.1:{free_port()}"]
    ran = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1 and "refused" in ran.stderr


@needs_vllm
async def test_a_script_starts_the_real_server_which_is_warmed_up_and_stops_when_told(tmp_path: Path) -> None:
    """The L4's, on the CPU build: its flags, environment and shutdown are the real ones; graphs and fp8 are not."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    told = {
        "CHECKPOINT": str(CHECKPOINT),
        "PORT": str(port),
        "QUANTIZATION": "",
        "VLLM": str(ROOT / VENV / "bin" / "vllm"),
    }
    with (tmp_path / "vllm.log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(
            VLLM / "l4.sh", *ON_CPU, env=os.environ | ENVIRONMENT | told, stdout=log, stderr=log
        )
        try:
            asked = (sys.executable, VLLM / "warm.py", "--url", url, "--wait", "150")
            warming = await asyncio.create_subprocess_exec(*asked, stdout=asyncio.subprocess.PIPE)
            said, _ = await asyncio.wait_for(warming.communicate(), 200)
            assert warming.returncode == 0, (tmp_path / "vllm.log").read_text()[-2_000:]
            assert re.fullmatch(r"world: 16 tokens in \d+ ms\n", said.decode())
            server.terminate()
            assert await asyncio.wait_for(server.wait(), 30) == 0
        finally:
            if server.returncode is None:
                server.kill()
                await server.wait()


# sizing


@pytest.mark.parametrize(("precision", "owed_ms"), [("bf16", 669), ("fp8", 365), ("int4", 219)])
def test_the_assumptions_give_the_known_floor_of_seven_billion_weights_on_an_h200(
    sizing: Mapping[str, Any], precision: str, owed_ms: float
) -> None:
    """200 passes of 5 sequences at 4.3 TB/s, computed elsewhere from the same model's real files."""
    gpu, model = sizing["GPUS"][0], sizing["MODELS"][2]
    kept = next(each for each in sizing["PRECISIONS"] if each.name == precision)
    assert sizing["floor_ms"](gpu, model, kept, 5, 200, 500) == pytest.approx(owed_ms, rel=0.03)


@pytest.mark.parametrize(("at", "billions"), [(0, 1.54), (1, 3.09), (2, 7.62), (3, 14.77)])
def test_the_models_have_the_sizes_that_their_names_say(sizing: Mapping[str, Any], at: int, billions: float) -> None:
    model = sizing["MODELS"][at]
    weights = model.body + model.head * (1 if model.tied else 2)
    assert weights / 1e9 == pytest.approx(billions, rel=0.005)


def test_no_plan_promises_more_than_its_bounds_allow(sizing: Mapping[str, Any]) -> None:
    front = 1000 / (sizing["FIVE"].requests * sizing["SERVER_MS"])
    for gpu in sizing["GPUS"]:
        for model in sizing["MODELS"]:
            for precision in sizing["PRECISIONS"]:
                plan = sizing["Plan"](gpu, model, precision)
                floor = sizing["floor_ms"](gpu, model, precision, 5, sizing["FIVE"].passes_p50, sizing["CONTEXT"])
                assert plan.latency_ms(sizing["FIVE"].passes_p50) > floor
                assert plan.at_once <= plan.room
                if plan.at_once:
                    assert plan.latency_ms(sizing["FIVE"].passes_p95, plan.at_once) <= sizing["BUDGET_MS"]
                    assert 0 < plan.per_second <= front


def test_the_readme_has_the_sizing_as_it_is_printed(readme: str) -> None:
    assert printed() in readme


def test_nothing_is_called_measured_until_a_measurement_is_given(tmp_path: Path) -> None:
    assert "**measured**" not in printed() and "No row has been measured" in printed()
    found = {
        "machine": {"checkpoint": "mini in qwen2.5-7b"},
        "gpu": {"name": "NVIDIA H200", "p50_ms": 212.5, "floor_ms": 130.1},
    }
    (path := tmp_path / "gpu_bench.json").write_text(json.dumps(found))
    rows = [line for line in printed("--measured", str(path)).splitlines() if "**measured**" in line]
    (path := tmp_path / "failed.json").write_text(json.dumps({"gpu": {"name": "NVIDIA H200"}}))
    failed = subprocess.run([sys.executable, str(VLLM / "sizing.py"), "--measured", str(path)], capture_output=True)
    assert failed.returncode == 1 and failed.stdout == b"", "a run that measured nothing is no measurement"
    assert rows == ["| NVIDIA H200 | mini in qwen2.5-7b | 212.5 |  |  | 130.1 |  | **measured** |"]
