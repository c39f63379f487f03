# A newcomer needs only `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := . $(sort $(wildcard plugins/*))
METADATA := $(DISTRIBUTIONS:=/pyproject.toml)
DEMO := runs/demo

.PHONY: help setup demo test test-slow test-nightly campaign lint wheels bench bench-policies gpu-check release-check docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.installed  ## make .venv with every distribution, editable

$(VENV)/.installed: constraints.txt $(METADATA)
	@echo "setting up $(VENV) (a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev \
		$(addprefix --editable ,$(DISTRIBUTIONS))
	@touch $@

demo: setup  ## record demonstrations, train a policy, evaluate it in closed loop
	@mkdir -p $(DEMO)
	$(BIN)/simscale record --env reach --episodes 200 --output $(DEMO)/reach.h5 --overwrite
	$(BIN)/simscale train --model bc --dataset $(DEMO)/reach.h5 --config docs/examples/demo.toml --checkpoint-dir $(DEMO)
	$(BIN)/simscale eval $(DEMO)/final.pt --env reach --episodes 200 --output $(DEMO)/eval.json
	$(BIN)/simscale plot $(DEMO)
	$(BIN)/simscale report $(DEMO)

test: setup  ## run the quick part of the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not nightly" -n 2 --dist loadfile

test-slow: setup  ## run the tests with real processes, wheels and kills, in two halves side by side
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow plugins tests/campaign > $(VENV)/slow.log 2>&1 & \
	half=$$!; $(BIN)/python -m pytest -m slow tests --ignore=tests/campaign; status=$$?; \
	wait $$half || status=1; cat $(VENV)/slow.log; exit $$status

test-nightly: setup  ## every broken component against every check
	$(BIN)/python -m pytest -m nightly

campaign: setup  ## attack checkpoints, files and command lines in full, and print the counts; half an hour
	SIMSCALE_CAMPAIGN_SCALE=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 \
		$(BIN)/python -m pytest tests/campaign -q -p no:cacheprovider -n 2 --dist worksteal

lint: setup  ## ruff, mypy --strict on every package, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheels: setup  ## build every distribution into dist/
	@rm -rf dist
	@for d in $(DISTRIBUTIONS); do $(BIN)/python -m build --quiet --wheel --sdist --outdir dist $$d || exit 1; done
	@ls dist

release-check: setup  ## build, check and install every distribution as for a release
	$(BIN)/python scripts/release_check.py

docs: setup  ## build the documentation as a site, into docs/_build/html
	$(BIN)/python -m sphinx -b html -W --keep-going -E -q docs docs/_build/html

bench: setup  ## time this project beside what one would pick instead
	@for b in startup data data_frames data_video data_opening loop checkpoint overhead console ddp sharding compiled evaluation_ranks threads; do $(BIN)/python benchmarks/$$b.py || exit 1; done

bench-policies: setup  ## measure the policies in closed loop against their targets; hours
	$(BIN)/python benchmarks/policies --json benchmarks/results/$$(date -u +%F)-policies.json

gpu-check: setup  ## check everything that needs CUDA in 8 minutes; without a GPU, pack that for a machine that has one
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
		then $(BIN)/python benchmarks/gpu_check; else $(BIN)/python benchmarks/gpu_check/pack.py; fi

clean:  ## remove what was built; runs/ stays
	rm -rf $(VENV) dist docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
