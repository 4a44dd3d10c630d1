# The two commands that matter: `make demo` and `make test`. Everything is installed into .venv,
# once: the stamp is renewed when a dependency changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
MAKEFLAGS += --no-print-directory

.PHONY: help install demo test quick-tests check lint format faults kills retrainings jobs browser \
	families memory infra nodes long pictures sbom clean

help:
	@echo "make demo     install, start the local cluster, search, register and use an adapter"
	@echo "make test     the tests: a quarter of an hour"
	@echo "make check    formatting, lint, types, import layers and the quick tests: a minute or two"
	@echo "make long     searches interrupted and lost, every method at every stage, studies, others"
	@echo "make faults   processes of a search are killed and stopped: some minutes"
	@echo "make kills    twenty kills in one search (SEED=1): a quarter of an hour"
	@echo "make browser  MLflow's pages of two searches, read in chromium: five minutes"
	@echo "make pictures the same, and the pictures of README are made anew"
	@echo "make jobs     comparisons, jobs of a cluster, many at once: ten minutes"
	@echo "make families every model type at every ZeRO stage on two ranks: some minutes"
	@echo "make memory   ZeRO-3 under prlimit, beside stage 0: two minutes"
	@echo "make infra    infra/ tried: broken manifests, Slurm, Prometheus, a backup: ten minutes"
	@echo "make nodes    Ray over machines made of namespaces, as root: half an hour"
	@echo "make retrainings  three scheduled retrainings with ten kills (SEED=1)"
	@echo "make sbom     what is installed, as a CycloneDX file (SBOM=dist/sbom.json)"
	@echo "make format   format and mend what ruff can mend"
	@echo "make install  install into $(VENV) (the others do it by themselves)"
	@echo "make clean    stop the local cluster, remove caches and build outputs"

install: $(STAMP)

# torch comes first and pinned: left to the resolver it can pull another build.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "Python 3.11 or newer \
	is needed, found $$($(PYTHON) -V). Try: make $(MAKECMDGOALS) PYTHON=python3.11" && exit 1)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (some minutes the first time)"
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) --editable ".[offline,dev]"
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/prefixprop up
	@$(BIN)/python -m pipelines.local_cluster.demo

# The tests of one slow file stay together: they share a Ray cluster or an MLflow server.
LONG := tests/components/tuning/test_searches.py tests/components/training/test_ulysses.py \
	tests/pipelines/research/studies/test_studies.py tests/test_sbom.py \
	tests/pipelines/research/benchmark/test_gpu.py tests/infra/test_manifests.py \
	tests/components/simulation/test_same_as_tune.py tests/compatibility/test_befcae5.py \
	tests/components/training/test_kept_states.py tests/components/training/test_quantised.py \
	tests/pipelines/test_quantised.py tests/components/planning/test_model_types.py \
	tests/components/planning/test_activations.py tests/components/evaluation/gate/test_decision.py \
	tests/components/training/test_methods.py tests/components/inference/test_many_adapters.py \
	tests/components/tuning/test_many_trials.py tests/components/config/test_mutated_experiments.py \
	tests/pipelines/retraining/test_monitoring.py tests/components/adapters/test_real_backbone.py \
	tests/pipelines/research/benchmark/test_step.py tests/components/jobs/test_side_by_side_slot.py \
	tests/components/training/test_side_by_side.py tests/pipelines/test_compared_exports.py \
	tests/components/training/test_label_words_over_ranks.py \
	tests/components/training/test_language_modelling_over_ranks.py \
	tests/components/training/test_prefix_start.py
PACKED := tests/components/tuning/test_side_by_side_search.py
APART := $(addprefix --ignore ,$(LONG) $(PACKED) tests/faults tests/pipelines/jobs tests/browser \
	tests/families tests/memory tests/infra tests/nodes)
test: quick-tests
	@$(BIN)/python -m pytest -m slow $(APART) -n 2 --dist loadfile

long: $(STAMP)
	@$(BIN)/python -m pytest -m slow $(LONG) -n 2 --dist loadfile

quick-tests: $(STAMP)
	@$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal

check: lint quick-tests

lint: $(STAMP)
	@$(BIN)/ruff format --check --quiet . || (echo "Run: make format" && exit 1)
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

faults: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/faults

jobs: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/pipelines/jobs $(PACKED)

browser: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/browser

pictures: $(STAMP)
	@PREFIXPROP_PICTURES=tests/browser/pictures $(BIN)/python -m pytest -m slow tests/browser

families: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/families

memory: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/memory

infra: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/infra

nodes: $(STAMP)
	@$(BIN)/python -m pytest -m slow tests/nodes

SEED ?= 1
kills: $(STAMP)
	@$(BIN)/python -m tests.faults.kills $(SEED)

retrainings: $(STAMP)
	@$(BIN)/python -m tests.faults.retrainings $(SEED)

SBOM ?= dist/sbom.json
sbom: $(STAMP)
	@mkdir -p $(dir $(SBOM))
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library \
	  --output-reproducible --of JSON -o $(SBOM) $(BIN)/python
	@echo "$(SBOM)"

clean:
	@test ! -x $(BIN)/prefixprop || $(BIN)/prefixprop down
	rm -rf build dist prefixprop.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
