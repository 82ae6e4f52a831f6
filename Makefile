# Needs Python 3.11, git and make; everything else goes into .venvs/ and build/.
#   make demo      see a pipeline submitted, watched and stopped by a real Airflow
#   make test      every check; must pass before a change is merged
#   make help      the other targets

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
NEWEST_AIRFLOW := 3.3.2
OLDEST_AIRFLOW := 3.0.6
# Versions between them; the tests of the pages in Airflow's UI and `make matrix` use these, too.
OTHER_AIRFLOWS := 3.1.8 3.2.2
# The versions that `make matrix` tests, if the machine has them or uv can fetch them.
PYTHONS := 3.11 3.12 3.13
# The executors that `make executors` tests on PostgreSQL.
EXECUTORS := executors-LocalExecutor executors-CeleryExecutor
# More arguments for pytest: make unit ARGS="-k stop -x"
ARGS ?=
ONLY ?=

TOOLS := .venvs/tools
UV := $(TOOLS)/bin/uv
# npm; installs the packages of the pages in Airflow's UI first.
NPM := $(TOOLS)/bin/python scripts/ui_build.py
NEWEST := .venvs/airflow-$(NEWEST_AIRFLOW)
OLDEST := .venvs/airflow-$(OLDEST_AIRFLOW)
OTHERS := $(OTHER_AIRFLOWS:%=.venvs/airflow-%)
DOCS := .venvs/docs
ENVIRONMENTS := $(NEWEST) $(OLDEST) $(OTHERS) $(DOCS)
# Twine, for `make dist`.
DIST := .venvs/dist
WHEELS := build/wheel
STAGE := build/stage

# An environment is ready if it contains this file. The lock's checksum is part of its name, so an
# environment that was made from another lock is not used.
lock_sum = $(shell cksum < requirements/$(1).txt | cut -d' ' -f1)
TOOLS_READY := $(TOOLS)/.ready-$(call lock_sum,tools)
ready = $(1)/.ready-$(call lock_sum,$(notdir $(1)))
NEWEST_READY := $(call ready,$(NEWEST))

# The tests must import the installed wheel, and Airflow must not read the developer's own settings.
unexport PYTHONPATH
unexport AIRFLOW_HOME
# The tests are compiled once, not by each process.
unexport PYTHONDONTWRITEBYTECODE
PYTEST = python -m pytest -p no:cacheprovider $(ARGS)
# The other tests do not use Airflow, so it is enough to run them in the environment of the newest one.
MEETS_AIRFLOW = $(addprefix tests/,hooks on_kill packaging plugin stats tasks)
# Most tests spend their time waiting for a server, so more processes than cores run. A process without tests takes over
# some from another one, so that all end at about the same time.
UNIT = $(PYTEST) -m "not e2e and not ui and not docs" -n 8 --dist worksteal

.DEFAULT_GOAL := help
# The targets share environments and the stage.
.NOTPARALLEL:
.PHONY: help demo test lint types docs docs-html docs-examples docs-pictures ui-unit ui-test chromium unit e2e test-airflow-oldest wheel conformance fuzz bench chaos deferrals lock clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 22

demo: $(NEWEST).wheel $(STAGE) ## Run the example DAG in a real Airflow; KEEP=1 leaves it up; ARROYO_URL=... uses your Arroyo
	@$(call in_stage,$(NEWEST),python -m scripts.demo)

# The largest suite runs last, so that its summary is at the end.
# Only ui-test and bench measure the speed of the pages.
test: UI_ONLY := and not speed
test: lint types ui-unit ui-test-$(NEWEST_AIRFLOW) e2e test-airflow-oldest docs unit ## Run every check; pytest's summary comes last

lint: $(NEWEST_READY) ## Check style, and the types of the pages
	@echo "== lint"
	@$(NEWEST)/bin/ruff format --check .
	@$(NEWEST)/bin/ruff check .
	@$(NEWEST)/bin/python scripts/check_version.py
	@$(NPM) run lint --silent
	@$(NPM) run types --silent

types: $(NEWEST_READY) ## Check types
	@echo "== types"
	@$(NEWEST)/bin/mypy

ui-unit: $(TOOLS_READY) ## Run the unit tests of the pages in Airflow's UI
	@echo "== pages: unit tests"
	@$(NPM) run test --silent

ui-test: $(OTHER_AIRFLOWS:%=ui-test-%) ui-test-$(NEWEST_AIRFLOW) ## Test the pages in a browser, on three Airflows

# The tests also take screenshots, to be looked at.
UI_TEST = ARROYO_UI_AXE=$(CURDIR)/airflow_provider_arroyo/plugin/ui/node_modules/axe-core/axe.min.js \
    ARROYO_UI_SHOTS=$(CURDIR)/build/ui-shots/$(1) $(PYTEST) -m "ui $(UI_ONLY)" tests/ui
.PHONY: $(OTHER_AIRFLOWS:%=ui-test-%) ui-test-$(NEWEST_AIRFLOW)
$(OTHER_AIRFLOWS:%=ui-test-%) ui-test-$(NEWEST_AIRFLOW): ui-test-%: .venvs/airflow-%.wheel $(STAGE) chromium
	@echo "== pages in a browser, Airflow $*"
	@$(UV) pip install --quiet --python .venvs/airflow-$*/bin/python --no-deps -r requirements/ui.txt
	@$(call in_stage,.venvs/airflow-$*,$(call UI_TEST,$*))

chromium:
	@command -v chromium >/dev/null || { echo "== installing Chromium" && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
	    || { echo "Chromium is needed: Debian's package chromium" >&2; exit 1; }

unit: $(NEWEST).wheel $(STAGE) ## Run the tests that need no running Airflow
	@echo "== unit and HTTP tests, Airflow $(NEWEST_AIRFLOW)"
	@$(call in_stage,$(NEWEST),$(UNIT))

e2e: $(NEWEST).wheel $(STAGE) ## Run the tests in a real Airflow
	@echo "== end to end, Airflow $(NEWEST_AIRFLOW)"
	@$(call in_stage,$(NEWEST),$(PYTEST) -m e2e)

# One version of Arroyo is enough here, since these tests are about Airflow.
test-airflow-oldest: $(OLDEST).wheel $(STAGE) ## Run the tests that use Airflow on the oldest supported version
	@echo "== unit and HTTP tests, Airflow $(OLDEST_AIRFLOW)"
	@$(call in_stage,$(OLDEST),$(UNIT) -k "not 0.15" $(MEETS_AIRFLOW))

docs: docs-html docs-examples ## Build the documentation into build/docs, and run every example in it

# Importing Airflow writes its settings into AIRFLOW_HOME.
docs-html: $(DOCS).wheel $(STAGE)
	@echo "== documentation"
	@$(call in_stage,$(DOCS),AIRFLOW_HOME=$(CURDIR)/build/docs-airflow AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING \
	    python -m sphinx -q -E -W --keep-going docs $(CURDIR)/build/docs)
	@echo "file://$(CURDIR)/build/docs/index.html"

docs-examples: $(NEWEST).wheel $(STAGE)
	@echo "== examples of the documentation"
	@$(call in_stage,$(NEWEST),$(PYTEST) -m docs tests/docs)

docs-pictures: ui-test-$(NEWEST_AIRFLOW) ## Update the screenshots in docs/pictures
	@cp $(addprefix build/ui-shots/$(NEWEST_AIRFLOW)/,$(notdir $(wildcard docs/pictures/*.png))) docs/pictures/

wheel: $(TOOLS_READY) ## Build the wheel into build/wheel, with the pages in Airflow's UI
	@rm -rf $(WHEELS)
	@$(UV) build --quiet --wheel --no-build-isolation --python $(TOOLS)/bin/python --out-dir $(WHEELS) .
	@ls $(WHEELS)/*.whl

# ONLY="3.0.6/3.12 3.3.2/3.13" selects combinations, ARGS tests; only a whole run updates the table.
.PHONY: matrix latest
MATRIX = $(TOOLS)/bin/python -m scripts.matrix --uv $(CURDIR)/$(UV) --pytest "$(ARGS)" --only "$(ONLY)"
matrix: wheel $(STAGE) ## Test each Airflow on each Python, for an hour, and write the table into docs/reference/compatibility.md
	@$(MATRIX) --airflows "$(OLDEST_AIRFLOW) $(OTHER_AIRFLOWS) $(NEWEST_AIRFLOW)" --pythons "$(PYTHONS)"

latest: wheel $(STAGE) ## Test the newest Airflow with its newest dependencies, to find problems early
	@$(MATRIX) --airflows latest --pythons "$(firstword $(PYTHONS))"

.PHONY: dist
dist: $(TOOLS_READY) $(call ready,$(DIST)) ## Build the release into dist/ twice, compare, and install both files in empty environments
	@$(TOOLS)/bin/python -c 'from pathlib import Path; from scripts.ui_build import install; install(Path.cwd())'
	@$(TOOLS)/bin/python -m scripts.dist --uv $(CURDIR)/$(UV) --twine $(CURDIR)/$(DIST)/bin/python --python $(PYTHON) \
	    --constraints $(CURDIR)/requirements/airflow-$(NEWEST_AIRFLOW).txt

conformance: $(NEWEST).wheel $(STAGE) ## Compare the sandbox, or ARROYO_URL, with the recordings of real servers
	@$(call in_stage,$(NEWEST),python -m tests.conformance $(ARGS))

fuzz: $(NEWEST).wheel $(STAGE) ## Run the randomized tests for longer; FUZZ_EXAMPLES=2000 for each, FUZZ_RESPONSES=50000 for HTTP
	@$(call in_stage,$(NEWEST),HYPOTHESIS_PROFILE=fuzz FUZZ_RESPONSES=$${FUZZ_RESPONSES:-50000} $(PYTEST) -p tests.profiles -m "(hypothesis or fuzz) and not e2e and not ui" -n 2)

bench: $(NEWEST).wheel $(STAGE) chromium ## Measure on an idle machine, for an hour; writes benchmarks/RESULTS.md
	@$(UV) pip install --quiet --python $(NEWEST)/bin/python --no-deps -r requirements/bench.txt -r requirements/ui.txt
	@$(call in_stage,$(NEWEST),python -m benchmarks --out $(CURDIR)/benchmarks/RESULTS.md $(ARGS))

chaos: $(NEWEST).wheel $(STAGE) ## Inject faults and kill processes, and count what goes wrong; needs PostgreSQL
	@$(UV) pip install --quiet --python $(NEWEST)/bin/python --no-deps -r requirements/chaos.txt
	@$(call in_stage,$(NEWEST),python -m tests.chaos $(ARGS))

executors: $(EXECUTORS) ## Run the tests in a real Airflow on PostgreSQL with each executor, and kill workers and triggerers; needs PostgreSQL and Redis

.PHONY: executors $(EXECUTORS)
$(EXECUTORS): executors-%: $(NEWEST).wheel $(STAGE)
	@echo "== end to end, Airflow $(NEWEST_AIRFLOW), $*"
	@$(UV) pip install --quiet --python $(NEWEST)/bin/python --no-deps -r requirements/celery.txt
	@$(call in_stage,$(NEWEST),ARROYO_E2E_EXECUTOR=$* $(PYTEST) -m e2e tests/e2e)

deferrals: $(NEWEST).wheel $(STAGE) ## Count how many short deferrals Airflow fails, with and without the hold; needs PostgreSQL and Redis
	@$(UV) pip install --quiet --python $(NEWEST)/bin/python --no-deps -r requirements/celery.txt
	@$(call in_stage,$(NEWEST),python -m tests.deferrals $(ARGS))

lock: $(TOOLS_READY) ## Update requirements/*.txt
	@scripts/lock.sh $(UV) $(NEWEST_AIRFLOW) $(OLDEST_AIRFLOW) $(OTHER_AIRFLOWS)

clean: ## Remove everything that make created
	rm -rf airflow_provider_arroyo/plugin/{static,ui/built.sha256,ui/node_modules}
	rm -rf .venvs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# $(call in_stage,environment,command): run a command in a copy of the repository without the package's sources, so that
# it can only import the installed wheel.
in_stage = cd $(STAGE) && exec env PATH="$(CURDIR)/$(1)/bin:$$PATH" ARROYO_PROVIDER_INSTALLED=$(CURDIR)/$(1) $(2)

.PHONY: $(STAGE)
$(STAGE):
	@rm -rf $(STAGE) && mkdir -p $(STAGE)
	@tar -cf - --exclude=./airflow_provider_arroyo --exclude=./build --exclude=./.git --exclude='./.venv*' \
	    --exclude='*_cache' --exclude='__pycache__' --exclude=./.hypothesis . | tar -xf - -C $(STAGE)

.PHONY: $(ENVIRONMENTS:%=%.wheel) $(ENVIRONMENTS:%=%/ready)
$(ENVIRONMENTS:%=%.wheel): %.wheel: wheel
	@$(MAKE) $*/ready
	@$(UV) pip install --quiet --compile-bytecode --python $*/bin/python --no-deps --reinstall $(WHEELS)/*.whl

.SECONDEXPANSION:
$(ENVIRONMENTS:%=%/ready): %/ready: $$(call ready,$$*) ; @:

$(foreach environment,$(ENVIRONMENTS) $(DIST),$(call ready,$(environment))): $(TOOLS_READY)
	@echo "== making $(@D)"
	@rm -rf $(@D)
	@$(PYTHON) -m venv --without-pip $(@D)
	@$(UV) pip install --quiet --compile-bytecode --python $(@D)/bin/python --no-deps -r requirements/$(notdir $(@D)).txt
	@$(UV) pip check --quiet --python $(@D)/bin/python
	@touch $@

$(TOOLS_READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/tools.txt
	@touch $@
