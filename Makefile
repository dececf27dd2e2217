# Needs python3 (3.11 or newer) with venv, and make. Everything else is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STATE  := .run-state
# More than processors: many tests wait.
WORKERS ?= 4
EFFORT ?= 20
ROUNDS ?= 30
EVENTS ?= 20000
SEEDS ?= 0
EXAMPLES ?= 2000
TARGETS ?=
N ?= 100
ROOMS ?= decide,plan,model
INTERVAL ?= 60
SECONDS_AT_MOST ?= 0
DOMAINS ?= 10000
SEED   := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))

# Tests start hundreds of processes: where this is set, each would compile all that it imports anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test fuzz mutants load test-flavours test-services test-fleet import-figures test-laws simulate chaos test-xen test-xen-long lint bench scale man clean

help:
	@echo "make run       plan and apply specs/ on its simulated host, then plan again: nothing is left to do"
	@echo "make test      the tests that need no hypervisor"
	@echo "make test-flavours  whole lives of domains on dom0s of NetBSD and Alpine, and on one with xm (apt install dash mksh posh busybox)"
	@echo "make test-services  the tests with real services beside: Prometheus, Alertmanager, a browser, etcd (apt install prometheus prometheus-alertmanager chromium etcd-server)"
	@echo "make test-fleet  more of them, ten minutes or so: etcds restored, full, cut off (root), lost lines, versions, TLS"
	@echo "make test-laws the laws of every plan, on more worlds and on others each time (SEED=N: on those again)"
	@echo "make import-figures  how many config files come back as they were, of FILES or of a corpus in RECONCILER_CORPUS"
	@echo "make fuzz      hostile specs, config files, hosts, plan files, requests, guests, until a law breaks (EXAMPLES=N SEED=N TARGETS=a,b)"
	@echo "make mutants   how many small changes of the rooms that decide the tests notice, in percent for each (N=100 SEED=N ROOMS=a,b)"
	@echo "make load      2,000 domains on one host through a day of edits and accidents, then 200 hosts of which 20 flap (INTERVAL=60)"
	@echo "make simulate  stories of seeds on simulated hosts, in which every command may fail and every await be the last (EVENTS=N SEED=N)"
	@echo "make simulate-defects  puts faults of the past back, one by one, and sees that the simulation finds each"
	@echo "make chaos     random edits, drift, faults and killed runs on simulated hosts (SEED=N ROUNDS=N)"
	@echo "make test-xen  the tests on a real Xen in QEMU (Debian 12, root; the first run builds an image)"
	@echo "make test-xen-long  more of them: failed updates, killed controllers, contended locks; half an hour or so"
	@echo "make lint      style, types, and which module may import which"
	@echo "make bench     speed as ratios against a floor, each with its goal; growth from 100 to 10,000 domains; what watch costs at rest"
	@echo "make scale     create and restart 5,000 domains on one host, follow a plan of 100,000 steps; turns of the loop (DOMAINS=N)"
	@echo "make man       write docs/man anew, the man pages, from the texts of --help"
	@echo "make clean     remove what make made"

run: $(VENV)/.installed
	@rm -rf $(STATE)
	$(BIN)/reconciler --state-dir $(STATE) plan specs
	$(BIN)/reconciler --state-dir $(STATE) apply specs --yes
	$(BIN)/reconciler --state-dir $(STATE) plan specs --detailed-exitcode

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not xen and not services and not flavours" --hypothesis-profile fixed

test-flavours: $(VENV)/.installed-dev
	$(BIN)/pytest tests -n $(WORKERS) --dist worksteal -m flavours --timeout 600

test-services: $(VENV)/.installed-services
	$(BIN)/pytest tests -m "services and not long" --timeout 300

test-fleet: $(VENV)/.installed-services
	$(BIN)/pytest tests/services -m "services and long" --timeout 600 -s

test-laws: $(VENV)/.installed-dev
	@echo "make test-laws SEED=$(SEED)"
	RECONCILER_LAW_EFFORT=$(EFFORT) $(BIN)/pytest tests/laws -n $(WORKERS) --timeout 3600 --hypothesis-seed=$(SEED)

import-figures: $(VENV)/.installed-dev
	$(BIN)/python -m tests.importer.figures $(FILES)

fuzz: $(VENV)/.installed-dev
	@echo "make fuzz EXAMPLES=$(EXAMPLES) SEED=$(SEED)"
	$(BIN)/python -m tests.fuzz --examples $(EXAMPLES) --seconds $(SECONDS_AT_MOST) --seed $(SEED) --targets "$(TARGETS)"

mutants: $(VENV)/.installed-dev
	@echo "make mutants N=$(N) SEED=$(SEED) ROOMS=$(ROOMS)"
	$(BIN)/python -m tests.mutants --number $(N) --seed $(SEED) --rooms $(ROOMS)

load: $(VENV)/.installed
	$(BIN)/python -m bench.load --interval $(INTERVAL) --seed $(SEED)

simulate: $(VENV)/.installed-dev
	@echo "make simulate EVENTS=$(EVENTS) SEEDS=$(SEEDS) SEED=$(SEED)"
	$(BIN)/python -m tests.simulate --events $(EVENTS) --seconds $(SECONDS_AT_MOST) --seeds $(SEEDS) --seed $(SEED)

.PHONY: simulate-defects
simulate-defects: $(VENV)/.installed-dev
	$(BIN)/python -m tests.simulate.defects

chaos: $(VENV)/.installed-dev
	@echo "make simulate  stories of seeds on simulated hosts, in which every command may fail and every await be the last (EVENTS=N SEED=N)"
	@echo "make simulate-defects  puts faults of the past back, one by one, and sees that the simulation finds each"
	@echo "make chaos SEED=$(SEED) ROUNDS=$(ROUNDS)"
	$(BIN)/python -m tests.chaos.chaos $(SEED) $(ROUNDS)

test-xen: $(VENV)/.installed-dev
	$(BIN)/python -m tests.xen.lab build
	$(BIN)/pytest tests/xen -m "xen and not long" -x --timeout 600 --durations 10

test-xen-long: $(VENV)/.installed-dev
	$(BIN)/python -m tests.xen.lab build
	$(BIN)/pytest tests/xen -m "xen and long" --timeout 1200 --durations 10

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	$(BIN)/python -m bench.growth
	$(BIN)/python -m bench.watch
	$(BIN)/python -m bench.hosts
	$(BIN)/python -m bench.makespan
	$(BIN)/python -m bench

scale: $(VENV)/.installed-dev
	RECONCILER_SCALE_DOMAINS=$(DOMAINS) $(BIN)/pytest tests/plan/test_scale.py \
		tests/test_passes_beside_loop.py tests/test_loop_turns.py --timeout 3600
	$(BIN)/python -m bench.scale

man: $(VENV)/.installed
	$(BIN)/python -m reconciler.cli.manual docs/man

clean:
	rm -rf $(VENV) $(STATE) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than pyproject.toml as long as what it stands for is installed.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-services: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,services]'
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: reconciler needs Python 3.11 or newer. Name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) cannot make a virtual environment. On Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
