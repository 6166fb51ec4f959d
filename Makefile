# Everything a person types. On a machine with Python 3.11 or newer, make, git and a network,
# `make serve` and `make test` need nothing else: they make .venv and fill it from the locks.
#
#   PYTHON=python3.12     the interpreter for .venv
#   TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"
#                         what pip installs as torch instead of its CPU build; export it to keep it
#   RECIPE=smoke          what `make train` trains, and `make serve` trains and serves
#   SERVE_ARGS="--port 9000"   more options for `python -m service serve`
#   CYCLE_ARGS="--prune"       more options for `python -m tests.deploy.compose_cycle`
#   URL=http://127.0.0.1:8000  what `make loadtest` loads, in place of a service of its own
#   LOAD_ARGS="--rate 200"     what it sends, in place of 50 arrivals/s for a minute

PYTHON ?=
TORCH ?=
RECIPE ?= demo-ml100k
SERVE_ARGS ?=
URL ?=
LOAD_ARGS ?= --rate 50 --slo loadtest/slo.toml
export PYTHON TORCH

PY := .venv/bin/python
CODE := model training service loadtest benchmarks tests
HISTORIES := sqlite:///var/histories.sqlite3

# An environment is whole when it carries the stamp of what it was made from.
LOCKS := $(filter-out requirements/ray.lock,$(sort $(wildcard requirements/*.lock)))
KERNELS := $(sort $(wildcard model/kernels/*.[ch] model/kernels/*.py))
ID := $(shell { echo '$(PYTHON) $(TORCH)'; cat $(LOCKS) $(KERNELS) scripts/install.sh; } | cksum | cut -d' ' -f1)
RUNTIME := .venv/.installed-runtime-$(ID)
DEV := .venv/.installed-dev-$(ID)
BROKEN := $(shell test -x .venv/bin/python || echo broken)

.NOTPARALLEL:
.PHONY: help serve test loadtest fuzz faults check containers format train install hooks lock audit clean broken

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

serve: $(RUNTIME) ## train the MovieLens-100K demo if need be, then serve it on 127.0.0.1:8000
	@$(PY) -m training run $(RECIPE)
	@$(PY) -m service import-histories runs/$(RECIPE)/data/histories.parquet --store $(HISTORIES)
	@exec $(PY) -m service serve --bundle-dir bundles/$(RECIPE) --history-url $(HISTORIES) \
		--catalog-file var/catalog-$(RECIPE).sqlite3 \
		--example-user 196 $(SERVE_ARGS)

test: $(DEV) ## run every test, with branch coverage
	$(PY) -m pytest --cov --cov-fail-under=95

loadtest: $(DEV) ## load the demo, or the service at URL; the report is reports/loadtest/report.html
	$(if $(URL),,@$(PY) -m training run $(RECIPE))
	$(PY) -m loadtest run $(if $(URL),--url $(URL),--bundle-dir bundles/$(RECIPE) \
		--data runs/$(RECIPE)/data/histories.parquet) $(LOAD_ARGS)

fuzz: $(DEV) ## send more than 5,000 requests made from the API's description to a real service
	FUZZ_CASES=600 $(PY) -m pytest -q -s tests/service/test_fuzz.py

faults: $(DEV) ## let stores, disks, versions and clients fail under load; print what callers saw
	$(PY) -m pytest -q -s tests/service/faults

check: $(DEV) ## formatting, lint and types, as on every commit
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/hadolint Dockerfile tests/deploy/*.Dockerfile
	@scripts/check-compose.sh

containers: $(DEV) ## build the images; take docker-compose.yml and the pods through their lives on an engine
	$(PY) -m tests.deploy.compose_cycle $(CYCLE_ARGS)

format: $(DEV) ## rewrite the code as `make check` wants it
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

train: $(RUNTIME) ## all steps of a recipe, from raw interactions to a bundle: make train RECIPE=smoke
	$(PY) -m training run $(RECIPE)

install: $(DEV) ## make .venv with everything, tools for development included

hooks: $(DEV) ## run `make check`'s tools on every git commit
	$(PY) -m pre_commit install

lock: $(DEV) ## write requirements/*.lock from pyproject.toml; UPGRADE=1 takes the newest versions
	scripts/lock.sh

audit: $(DEV) ## look up known vulnerabilities of what is locked for the service; needs a network
	$(PY) -m uv tool run pip-audit --requirement requirements/service.lock --require-hashes --disable-pip

clean: ## remove .venv and caches; runs/, bundles/ and var/ stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): $(BROKEN)
	@scripts/install.sh runtime $(RUNTIME)

$(DEV): $(BROKEN)
	@scripts/install.sh dev $(RUNTIME) $(DEV)

broken: # a prerequisite for as long as .venv has no interpreter that starts
