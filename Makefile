# Needs python3 (3.11 or later, with its venv module) and make. `make` alone lists what there is to make.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
INTEROP := .venv-interop
RUNS ?= $(HOME)/.cache/pauc-recipes

.DEFAULT_GOAL := help
.PHONY: help demo test interop scores gpu clean
.NOTPARALLEL:

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP)  ## embed the sample images with the bundled backbone
	@$(BIN)/pauc embed examples/images --output examples/images.parquet --overwrite

test: $(STAMP)  ## lint, types, tests, and a trial of the wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Everything but the consumers themselves is borrowed from .venv, which saves 6 GB.
interop: $(INTEROP)/.installed  ## load models in transformers and sentence-transformers, embed in Ray Data; in an environment of its own
	OMP_NUM_THREADS=1 $(INTEROP)/bin/python -m pytest -W default -rP interop

$(INTEROP)/.installed: $(STAMP) interop/requirements.txt
	@$(BIN)/python -m venv --clear $(INTEROP)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	> $$($(INTEROP)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth
	@$(INTEROP)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r interop/requirements.txt
	@touch $@

scores: $(STAMP)  ## repeat the scores on the cards of bundled models: TINY=tiny-imagenet-200 CIFAR=train.parquet
	$(BIN)/python benchmarks/scores.py $(if $(TINY),--tiny $(TINY)) $(if $(CIFAR),--cifar $(CIFAR))

# The two that want images are left out where none are named, and so are the recipes without MINUTES.
gpu: $(STAMP)  ## what a GPU is needed for: tests, benchmarks, and recipes for MINUTES=; CIFAR=train.parquet TINY=folder PHOTOS=folder for all
	$(BIN)/pytest -m gpu
	$(BIN)/python benchmarks/kmeans.py --device cuda
	$(BIN)/python benchmarks/augmentation.py --device cuda
	$(BIN)/python benchmarks/train_scaling.py --device cuda
	$(if $(CIFAR),$(BIN)/python benchmarks/train_against_lightly.py $(CIFAR) --device cuda --steps 97 --epochs 4 --peers-venv ~/.cache/pauc-peers)
	$(if $(PHOTOS),$(BIN)/python benchmarks/embed_photos.py $(PHOTOS) --device cuda)
	$(BIN)/python benchmarks/speed_page.py
	$(if $(MINUTES),$(BIN)/python benchmarks/timed_training.py --minutes $(MINUTES) -o $(RUNS) --device cuda $(if $(CIFAR),--cifar $(CIFAR)) $(if $(TINY),--tiny $(TINY)))

clean:  ## remove all that make and the checks left, .venv too
	rm -rf .venv $(INTEROP) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f examples/images.parquet examples/images.errors.parquet
	find . -name __pycache__ -prune -exec rm -rf {} +

# The pins are for Linux on x86-64. Elsewhere pip chooses within the ranges of pyproject.toml.
$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found. Install Python 3.11 or later, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), but 3.11 or later is needed. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv (once, about 6 GB with torch)" >&2
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; \
	then $(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt; \
	else $(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[test]'; fi
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
