# Everything is done in .venv, from hash-pinned requirement files. `make` alone lists the targets.
# Works with GNU make >= 3.81 and any POSIX shell, also where the path of the checkout has spaces.

# The interpreter that makes .venv; if empty, the first suitable one of CANDIDATES.
PYTHON     ?=
CANDIDATES := python3 python3.13 python3.12 python3.11 python
# What `make train` runs, e.g. make train TRAIN='train tiny --test'
TRAIN      ?= train quick --test
# These files' tests that are marked `engines` are run a second time on JAX, in a process of its own;
# `make chaos` runs the others there too.
BACKEND_TESTS := tests/engine/test_augment.py tests/engine/test_models.py tests/engine/test_optimizers.py \
                 tests/scoring/test_evaluation.py tests/training/test_microbatch.py \
                 tests/training/test_training.py tests/training/test_distillation.py tests/training/test_learning_photos.py
# Most of that time JAX compiles: let it remember from one `make test` to the next, and leave out
# XLA's costly passes, with which `make chaos` runs the same tests.
JAX_CACHE := JAX_COMPILATION_CACHE_DIR=.venv/jax-cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
# What measures on one machine in an hour and a half; see benchmarks/ for the others.
BENCHMARKS := start_up memory checkpoints steps evaluation time_to_accuracy predict photos outliers
# How often `make chaos` kills at a random time.
KILLS ?= 50
# What `make browser` drives.
CHROMIUM ?= $(firstword $(wildcard /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome))
# What `make clients` loads exported files with, each in a folder of its own: OpenCV's minor versions, the oldest
# onnxruntime that pyproject.toml allows, LiteRT without TensorFlow; from npm onnxruntime for Node and for the web.
CLIENTS := opencv-python-headless==4.10.0.84 opencv-python-headless==4.11.0.86 opencv-python-headless==4.12.0.88 \
           opencv-python-headless==4.13.0.92 opencv-python-headless==5.0.0.93 onnxruntime==1.21.0 ai-edge-litert==2.1.6
NODE_CLIENTS := onnxruntime-node@1.30.0 onnxruntime-web@1.30.0
# One room, file or test, or several: make test ONE=tests/training
ONE ?=
PYTEST_OPTIONS ?=
# Two at a time, a file's tests together since they share what they have trained; in the order of
# their names, since files of few tests, which otherwise come last, are not the quick ones.
PROCESSES ?= -n 2 --dist loadfile --no-loadscope-reorder
LOCK_OPTIONS   ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
UV  := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile --quiet $(LOCK_OPTIONS) pyproject.toml

WEB := src/fmnist/serving/web
SHIPPED := src/fmnist/inference/shipped
# Where `make page` puts the page.
OUT ?= build/page

# Where it is set, each start of a process would compile again what install has not compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help train test coverage lint unit web page browser chaos verify processes trackers cluster clients bench docs lock clean venv install-train install-dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' Makefile

train: install-train ## install what is missing, train the recipe `quick`, score it on the test images
	@$(BIN)/fmnist $(TRAIN)

ifeq ($(strip $(ONE)),)
test: lint unit ## lint, types and the test suite, on TensorFlow and on JAX; make test ONE=tests/training
else
test: install-dev
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS) $(ONE)
endif

coverage: install-dev ## which lines and branches of src the suite runs on TensorFlow (pytest-cov)
	@KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PROCESSES) --cov=fmnist --cov-branch \
	    --cov-report=term:skip-covered $(PYTEST_OPTIONS) $(ONE)

lint: install-dev ## ruff and mypy alone
	@echo "ruff and mypy ..."
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { $(BIN)/ruff format --check; exit 1; }
	@$(BIN)/mypy --no-error-summary

unit: install-dev ## the test suite alone; make unit PYTEST_OPTIONS='-k wheel'
	@echo "tests on TensorFlow ..."
	@KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PROCESSES) $(PYTEST_OPTIONS)
	@echo "tests on JAX ..."
	@# pytest's 5 says that PYTEST_OPTIONS chose none of these files' tests: fine here.
	@KERAS_BACKEND=jax $(JAX_CACHE) JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest $(PROCESSES) \
	    -m "engines and not (chaos or long_on_jax)" \
	    $(PYTEST_OPTIONS) $(BACKEND_TESTS) || { code=$$?; [ $$code -eq 5 ] || exit $$code; }

web: venv ## the page's runtime, from npm into src/fmnist/serving/web/vendor; the page then needs no server
	@command -v npm >/dev/null || { echo "make web needs npm (Node.js 18 or newer)" >&2; exit 1; }
	@echo "installing what web-build/package-lock.json pins ..."
	@cd web-build && npm ci --silent
	$(call install,base,$(call packages,base) pinned packages into .venv (for the licence texts of the runtime))
	@mkdir -p $(WEB)/vendor
	@cp web-build/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs $(WEB)/vendor/ort.js
	@gzip -9 -n -c web-build/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm >$(WEB)/vendor/ort.wasm.gz
	@# The npm package holds no licence texts; its Python sibling of the same sources does.
	@cp .venv/lib/python3.*/site-packages/onnxruntime/LICENSE $(WEB)/vendor/LICENSE.txt
	@cp .venv/lib/python3.*/site-packages/onnxruntime/ThirdPartyNotices.txt $(WEB)/vendor/ThirdPartyNotices.txt

page: web ## the page as a folder for any file host: make page OUT=folder
	@mkdir -p "$(OUT)/model"
	@cp -R $(WEB)/. "$(OUT)/"
	@cp $(SHIPPED)/model.onnx $(SHIPPED)/segmenter.onnx $(SHIPPED)/card.json "$(OUT)/model/"
	@echo "$(OUT) is the page: put it on any file host"

browser: install-dev web ## the page in a real Chromium; make browser CHROMIUM=/path/to/chromium
	@KERAS_BACKEND=tensorflow CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest -m browser tests/serving/test_web.py $(PYTEST_OPTIONS)

chaos: install-dev ## the long forms of tests, then hurt training processes by the dozen (docs/reliability.md)
	@$(BIN)/python -m pytest $(PROCESSES) -m chaos
	@echo "tests on JAX, as it compiles for users ..."
	@KERAS_BACKEND=jax $(JAX_CACHE) $(BIN)/python -m pytest $(PROCESSES) -m "not slow and not accelerator" $(BACKEND_TESTS)
	@$(BIN)/python tests/faults/chaos.py --kills $(KILLS)

verify: install-train ## every committed record's weights score what they claim to (three minutes)
	@$(BIN)/fmnist verify $(patsubst %/weights.safetensors,%,$(wildcard records/*/weights.safetensors))

processes: install-dev ## training over 2 and 4 processes of this machine, of which one is killed
	@KERAS_BACKEND=jax $(BIN)/python -m pytest -m "slow or not slow" tests/engine/test_distributed.py

trackers: install-dev ## trainings that real MLflow follows
	$(call install,mlflow,MLflow's client into .venv (another 0.1 GB on disk))
	@KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m slow tests/training/test_trackers.py

cluster: install-dev ## a sweep on a real Ray cluster of three nodes on this machine, one of which is killed
	$(call install,cluster,Ray into .venv (another 0.2 GB on disk))
	@KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m slow tests/search/test_cluster.py

clients: install-dev ## exported files in OpenCV, onnxruntime (Python, Node, web) and LiteRT, fetched into build/clients
	@command -v npm >/dev/null || { echo "make clients needs npm (Node.js 18 or newer)" >&2; exit 1; }
	@for client in $(CLIENTS); do \
	    [ ! -d "build/clients/$$client" ] || continue; echo "installing $$client ..."; \
	    $(PIP) install --quiet --no-deps --only-binary :all: --target "build/clients/$$client" "$$client" || exit 1; \
	done
	@# Without scripts: one would fetch what computes on GPUs.
	@npm install --silent --no-save --ignore-scripts --prefix build/clients/node $(NODE_CLIENTS)
	@KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m clients tests/exports/test_clients.py $(PYTEST_OPTIONS)

bench: install-dev ## the benchmarks, each prints a table: an hour and a half, for a quiet machine
	@for name in $(BENCHMARKS); do \
	    echo "benchmarks/$$name.py ..."; $(BIN)/python benchmarks/$$name.py || exit 1; \
	done

docs: venv ## the documentation as a site in build/docs; a link that leads nowhere fails
	$(call install,docs,what builds the site into .venv (0.4 GB on disk if nothing is there yet))
	@# Not --quiet: it would hide the warnings from --strict.
	@PYTHONPATH=src NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean
	@echo "build/docs/index.html is the site's first page"

lock: install-dev ## resolve requirements/*.txt anew; LOCK_OPTIONS=--upgrade takes newer versions
	@$(UV) --extra train --extra jax --extra tensorboard --extra parquet --extra heic --group build --group dev --output-file requirements/dev.txt
	@$(UV) --constraints requirements/dev.txt --extra train --group build --output-file requirements/train.txt
	@$(UV) --constraints requirements/dev.txt --output-file requirements/base.txt
	@$(UV) --constraints requirements/dev.txt --group docs --output-file requirements/docs.txt
	@for extra in cuda rocm cluster mlflow; do \
	    $(UV) --constraints requirements/dev.txt --extra $$extra --output-file requirements/$$extra.txt || exit 1; \
	done
	@echo "requirements/*.txt are up to date; commit them"

clean: ## remove .venv, builds and caches (runs/ stays)
	@rm -rf .venv build dist web-build/node_modules $(WEB)/vendor .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv/made-in holds where .venv was made: scripts in it name that folder, so a moved checkout
# gets a new one, and so does one whose interpreter is gone or whose making was cut short.
venv:
	@if [ "$$(cat .venv/made-in 2>/dev/null)" = "$$(pwd)" ] && $(BIN)/python -c '' 2>/dev/null; then exit 0; fi; \
	why=; \
	for candidate in "$(PYTHON)" $(if $(PYTHON),,$(CANDIDATES)); do \
	    [ -n "$$candidate" ] || continue; \
	    version=$$("$$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) \
	        || { why="$${why:-$$candidate: not found or does not start}"; continue; }; \
	    case $$version in \
	        3.11.*|3.12.*|3.13.*) ;; \
	        *) why="$$candidate is Python $$version"; continue;; \
	    esac; \
	    "$$candidate" -c 'import ensurepip, venv' 2>/dev/null \
	        || { why="$$candidate lacks the venv module; on Debian and Ubuntu: apt install python3-venv"; continue; }; \
	    echo "making .venv with $$candidate (Python $$version) ..."; \
	    rm -rf .venv && "$$candidate" -m venv .venv && pwd >.venv/made-in; exit; \
	done; \
	echo "fmnist needs Python 3.11, 3.12 or 3.13 ($$why); name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	exit 1

# $(call install,NAME,WHAT): brings .venv to requirements/NAME.txt, unless the copy kept of what was
# installed says that it is there already. Python compiles a module when it is first imported: all of
# them would take 40 seconds of a processor, those that a training imports take five.
define install
@if cmp -s requirements/$(1).txt .venv/installed-$(1).txt; then exit 0; fi; \
echo "installing $(2) ..."; \
$(PIP) install --quiet --no-compile --require-hashes --only-binary :all: --requirement requirements/$(1).txt && \
cp requirements/$(1).txt .venv/installed-$(1).txt
endef
packages = $(shell grep -c '^[a-z].*==' requirements/$(1).txt)

# The checkout itself is installed editable; --no-deps and --no-build-isolation: nothing that is not
# pinned is ever fetched.
install-train: venv
	$(call install,train,$(call packages,train) pinned packages into .venv (0.4 GB to fetch and 1.9 GB on disk; a minute or two))
	@if cmp -s pyproject.toml .venv/installed-pyproject.toml; then exit 0; fi; \
	$(PIP) install --quiet --no-deps --no-build-isolation --editable . && \
	cp pyproject.toml .venv/installed-pyproject.toml

install-dev: install-train
	$(call install,dev,JAX and the tools for tests into .venv (another 0.8 GB on disk))
