# make demo, make test: from a fresh machine with Python and make alone. See README.md.

PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
DEMO_CONFIG := configs/demo.yaml
DEMO_EPOCHS := 10,20,30
# Files of tests run side by side, in so many processes.
TESTERS ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

ADDRESS ?= http://127.0.0.1:8265

.PHONY: help setup demo test test-slow test-soak test-gpu-image lint clean
.PHONY: submit-prepare submit-train submit-evaluate submit-upscale submit-export

help:
	@echo "make demo   prepare, train and evaluate on photographs that need no download"
	@echo "make test   all tests but the slow ones"
	@echo "make test-slow   those: stops, lost nodes, Ceph, a cluster that jobs are submitted to"
	@echo "make test-soak   repeats of what another test shows once: many random kills, all of Ceph"
	@echo "make test-gpu-image   whether TensorFlow finds CUDA's real packages; downloads gigabytes"
	@echo "make lint   formatter, linter and types"
	@echo "make submit-prepare, submit-train, submit-evaluate, submit-upscale, submit-export ARGS=\"...\"   on the cluster at ADDRESS ($(ADDRESS))"
	@echo "make setup  only the .venv, which the others make for themselves"

setup: .venv/.installed

.venv/.installed: constraints.txt constraints-build.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: $$($(PYTHON) --version 2>&1) at $(PYTHON) cannot be used: Python 3.10 to 3.13 is" \
	    "needed; name one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r constraints-build.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r constraints.txt
	touch $@

demo: setup
	$(BIN)/python -m jobs.prepare --source samples --patch-size 96 --stride 24 --out $(DEMO)/data
	$(BIN)/python -m jobs.train --config $(DEMO_CONFIG) --data $(DEMO)/data --run $(DEMO)/run
	$(BIN)/python -m jobs.evaluate --run $(DEMO)/run --data $(DEMO)/data --epochs $(DEMO_EPOCHS)

# $(call timed,seconds,command): runs it and says how long it took. Two idle cores need less than that.
timed = begun=$$(date +%s); $(2); code=$$?; \
	echo "make $@: $$(( $$(date +%s) - begun )) s; at most $(1) s on two idle cores"; exit $$code

test: setup
	@$(call timed,360,$(PYTEST))

test-slow: setup
	@$(call timed,900,$(PYTEST) -m "slow and not soak")

test-soak: setup
	$(PYTEST) -m soak

test-gpu-image: setup
	$(BIN)/python -m pytest -m gpu_image tests/data_pipeline/platform/test_cuda.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

submit-prepare submit-train submit-evaluate submit-upscale submit-export: setup
	$(BIN)/python deploy/submit.py --address "$(ADDRESS)" $(@:submit-%=%) $(ARGS)

clean:
	rm -rf $(DEMO)
