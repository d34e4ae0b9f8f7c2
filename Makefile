# Every target sets up what it needs: a virtual environment in .venv, made once and made again when the pins change.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

BOARD ?= jetson-tx2
IMAGE ?= images/$(BOARD)
# Files of an image belong to root.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# A laptop that only makes and flashes images needs no torch: three libraries, in a virtual environment of their own.
LIGHT := .venv-jetson
JETSON := $(if $(wildcard $(READY)),$(BIN),$(LIGHT)/bin)/python -m jetson
JETSON_READY := $(if $(wildcard $(READY)),$(READY),$(LIGHT)/.ready)

EXPERIMENT ?= experiments/facades.yaml
FACADES ?= ../shared/data/facades
# Threads that wait by spinning slow everything else on the same cores.
export OMP_WAIT_POLICY ?= PASSIVE
SKYLIGHT := $(BIN)/skylight

.PHONY: help setup demo test test-full test-slow test-arm64 test-boot bench bench-gpu lint format constraints curate train export
.PHONY: package image flash pictures clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is %d.%d; Skylight needs Python 3.11 or newer: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY)  ## install everything into .venv

demo: $(READY)  ## the whole line on drawn building fronts, about 10 minutes on two cores
	$(SKYLIGHT) demo

curate: $(READY)  ## the data sets of EXPERIMENT=...
	$(SKYLIGHT) curate $(EXPERIMENT)

train: $(READY)  ## the trials of EXPERIMENT=..., resumed where they stopped
	$(SKYLIGHT) train $(EXPERIMENT)

export: $(READY)  ## the bundle of EXPERIMENT=...
	$(SKYLIGHT) export $(EXPERIMENT)

$(LIGHT)/.ready: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is %d.%d; Skylight needs Python 3.11 or newer: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	@test -x $(LIGHT)/bin/python || $(PYTHON) -m venv $(LIGHT) || { echo "no venv module: apt-get install python3-venv" >&2; exit 2; }
	@$(LIGHT)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pydantic pyyaml pynacl
	@touch $@

image: $(JETSON_READY)  ## an image of BUNDLE=... for BOARD=...; L4T=, ROOTFS=, SYSTEM=drone.yaml, IMAGE_OPTIONS="..."
	@test -n "$(BUNDLE)" || { echo "make image: BUNDLE is not set; name a folder that skylight export made" >&2; exit 2; }
	@$(SUDO) $(JETSON) image --board "$(BOARD)" --bundle "$(BUNDLE)" --out "$(IMAGE)" $(if $(L4T),--l4t "$(L4T)") \
	    $(if $(ROOTFS),--rootfs "$(ROOTFS)") $(if $(SYSTEM),--system "$(SYSTEM)") $(IMAGE_OPTIONS)

package: $(JETSON_READY)  ## the Debian package of what flies, for BOARD=...
	@$(JETSON) package --board "$(BOARD)"

flash: $(JETSON_READY)  ## the image of BOARD=... onto MODULE=... in recovery mode; DRY_RUN=1 prints only, FLASH="-r ..."
	@$(JETSON) flash --board "$(BOARD)" --image "$(IMAGE)" $(if $(MODULE),--module "$(MODULE)") $(if $(DRY_RUN),--dry-run) $(FLASH)

test: $(READY)  ## the quick tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not long"

test-full: $(READY)  ## all but the slow ones, as CI runs them, and how much of the code they ran
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile -m "not slow"
	$(BIN)/coverage combine --quiet && rm -f build/coverage/data.*  # left by tests that fill a disk
	@for part in pipeline deploy jetson; do \
	    echo "coverage of $$part: $$($(BIN)/coverage report --include="$$part/*" --format=total) %"; done
	@echo "line by line: $(BIN)/coverage html, then build/coverage/html/index.html"

test-slow: $(READY)  ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

test-arm64: $(READY)  ## the package on an emulated arm64 Debian: minutes, root, qemu-user-static, debootstrap
	timeout 3600 $(BIN)/python -m pytest -m slow tests/jetson/test_arm64.py

test-boot: $(READY)  ## an image, booted by qemu-system-aarch64 until it flies: minutes, root
	timeout 5400 $(BIN)/python -m pytest -m slow tests/jetson/test_boot.py

bench: $(READY)  ## the measurements, into tests/benchmarks/results; FACADES=folder, some hours on two cores
	$(BIN)/python tests/benchmarks/bench_index.py
	$(BIN)/python tests/benchmarks/bench_defects.py $(FACADES) --root bench
	$(BIN)/python tests/benchmarks/bench_curated_training.py $(FACADES) --root bench
	$(BIN)/python tests/benchmarks/bench_training.py $(FACADES) --root bench
	$(BIN)/python tests/benchmarks/bench_accuracy.py $(FACADES) --root bench
	$(BIN)/python tests/benchmarks/bench_loop.py $(FACADES)
	$(BIN)/python tests/benchmarks/bench_web.py
	$(BIN)/python tests/benchmarks/bench_advise.py $(dir $(FACADES)) --root bench/advise

bench-gpu:  ## training on a GPU; needs torch, numpy, OpenCV and pydantic in PYTHON alone
	$(PYTHON) tests/benchmarks/bench_gpu.py

lint: $(READY)  ## ruff, mypy, and Python 3.6 for what flies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --target=3.6- deploy

format: $(READY)  ## let ruff rewrite the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(READY)  ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --no-header --no-emit-index-url --no-emit-find-links --no-annotate \
	    --upgrade --extra dev pyproject.toml --output-file constraints.txt
	$(BIN)/uv --version | sed -E 's/uv ([0-9.]+).*/uv==\1/' >> constraints.txt

pictures: $(READY)  ## those of the docs, from a finished run of experiments/facades.yaml; needs Chromium
	PYTHONPATH=.:tests $(BIN)/python tests/browser/report_page.py report/facades/index.html docs/pictures/report.png
	PYTHONPATH=.:tests $(BIN)/python tests/browser/flown_page.py bundles/arch-1 data/facades-arch/images/val docs/pictures/drone.png
	PYTHONPATH=.:tests $(BIN)/python tests/browser/review_page.py datasets/facades.yaml $(FACADES) docs/pictures/review.png

clean:  ## remove what the demo and the tests made, keep data, runs and bundles
	rm -rf demo bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
