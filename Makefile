# The two commands: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := torch,ort,openvino,tensorrt-rtx,dev

.PHONY: demo test lint bench clean

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv: torch, ONNX Runtime, OpenVINO, TensorRT-RTX; a few minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

demo: .venv/installed
	$(BIN)/python -m export_models.demo build/demo

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks.forms

clean:
	rm -rf build .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache
