# Everything runs in virtual environments, so that a machine needs python3, pip and make.
# Those under build/ are made from the built wheel: what is tested there is what is shipped.
# .venv has the library editable, for working on it.
PYTHON ?= python3
# The pip that makes environments; it need not be of PYTHON.
PIP ?= $(PYTHON) -m pip
SECONDS ?=
SEED ?=
MESSAGES ?=
TOPOLOGY ?=
QUICK ?=
STORE ?=
MODULE ?=
MINUTES ?=
SAMPLE ?=
AGAIN ?=
REPORT ?=
SCREENSHOTS ?=
CHROMIUM ?= $(shell for name in chromium chromium-browser google-chrome; do command -v $$name && break; done)
PYTHONS = $(addprefix python3.,10 11 12 13 14 14t)
EXTRAS = codegen,demo,django,flask,metrics,oauth,opentelemetry,plan,web
DOCUMENTED = django,flask,metrics,web
MEASURED = demo,django,plan
IMAGE = django flower metrics oauth plan web
# A fresh environment. `venv --without-pip` and pip's --python work where Debian's
# python3-venv is absent; dependency groups need the newer pip that is installed into it.
FRESH = rm -rf $(@D) && $(PYTHON) -m venv --without-pip $(@D) \
	&& $(PIP) --python $(@D)/bin/python install -q 'pip>=25.1'
# A fresh environment of the built wheel with extras and a dependency group.
define INSTALL
$(MAKE) wheel
$(FRESH)
$(@D)/bin/python -m pip install -q "$$(ls build/dist/*.whl)[$(1)]" $(if $(2),--group $(2))
touch $@
endef
# Format, lint and types, with the tools of an environment.
define LINT
$(1)/bin/ruff format --check .
$(1)/bin/ruff check .
$(1)/bin/mypy
$(1)/bin/ty check --python $(1)
$(1)/bin/pyright --pythonpath $(1)/bin/python
endef
# Each process of pytest compiles what the others have not: listing the tests compiles all of it once.
PYTEST = PYTHONDONTWRITEBYTECODE= build/test/bin/python -m pytest
SOURCES = $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md LICENSE

.DEFAULT_GOAL = help
.PHONY: help dev lint unit test checked listed pythons browser applications topologies demo chaos mutate bench scale docs links wheel lock clean $(PYTHONS)

## Print this list.
help:
	@awk '/^## / { if (!about) about = substr($$0, 4) } \
		/^[a-z]+:/ { if (about) { sub(/:.*/, ""); printf "  make %-12s %s\n", $$0, about }; about = "" }' Makefile

## Make .venv, an editable environment for working on the library.
dev: .venv/.installed

## Check format, lint and types.
lint: .venv/.installed
	$(call LINT,.venv)

## Run the unit tests, which need no server: half a minute.
unit: .venv/.installed
	.venv/bin/python -m pytest -q tests/unit

## Check format, lint and types, and run every test, against the built wheel.
test:
	rm -f build/test/.installed
	$(MAKE) build/test/.installed
	$(MAKE) -j2 --output-sync checked listed
	$(PYTEST) -n 4 --dist worksteal

checked:
	$(call LINT,build/test)

listed:
	@$(PYTEST) -qq --collect-only > build/listed.txt || { cat build/listed.txt; exit 1; }

## Run the unit tests with each Python, 3.10 to 3.14t, that the PATH has.
pythons: $(PYTHONS)

$(PYTHONS):
	@if $@ -c '' 2> /dev/null; then \
		$(MAKE) PYTHON=$@ build/$@/.installed && build/$@/bin/python -m pytest -q tests/unit; \
	else echo "$@ is not on the PATH"; fi

## Visit Flower, the debugger, the panel, the example shops and the site in the system's Chromium; SCREENSHOTS=1 renews those of the docs.
browser:
	@test -n "$(CHROMIUM)" || { echo "no Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"; exit 1; }
	$(MAKE) build/browser/.installed
	CHROMIUM="$(CHROMIUM)" SCREENSHOTS=$(if $(SCREENSHOTS),docs/images) \
		build/browser/bin/python -m pytest tests/browser

## Have a visitor buy in a shop that others wrote, django-oscar, and see what is tracked: two minutes.
applications: build/applications/.installed
	build/applications/bin/python -m pytest -c applications/pytest.ini applications

## Run tests, and chaos, with Redis 6 and 7, Sentinels, a cluster, RabbitMQ, and each of Celery's pools: nine minutes.
## What is not installed is skipped.
topologies: build/test/.installed
	$(PYTEST) -n 2 --dist worksteal tests/topologies

## Run the main job on an embedded Redis; SECONDS=20 ends it by itself.
demo: build/demo/.installed
	build/demo/bin/python -m celery_segment.demo $(if $(SECONDS),--seconds $(SECONDS))

## Inject faults into every process for SECONDS=600, as SEED=7 decides; REPORT=PAGE gets the report as a section.
## MESSAGES=1000000 tracks so many instead, while a worker is killed every five seconds.
## TOPOLOGY=sentinel has other servers, and faults that fit them: redis6, redis7, sentinel, cluster, rabbitmq.
chaos: build/test/.installed
	PYTHONPATH=tests build/test/bin/python -m chaos --seconds $(or $(SECONDS),120) \
		--seed $(or $(SEED),7) --topology $(or $(TOPOLOGY),standalone) $(if $(MESSAGES),--messages $(MESSAGES)) $(if $(REPORT),--report $(REPORT))

## Change the library in many small ways and list what no test notices: MODULE=buffer/pool.py, MINUTES=20.
## SAMPLE=10 changes of each file, chosen by SEED=7; AGAIN=1 tests the last list again.
mutate: build/mutate/.installed
	PYTHONPATH=tests nice build/mutate/bin/python -m mutation $(MODULE) --seed $(or $(SEED),7) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(AGAIN),--again)

## Measure every figure beside its peers, which get an environment of their own; QUICK=1 takes six minutes.
bench: build/bench/.installed build/peers/.installed
	SEGMENT_BENCH_PEERS=build/peers/bin/python build/bench/bin/python -m benchmarks $(if $(QUICK),--quick)

## Measure appends and deliveries, and compare the simulation with them; STORE=1 keeps what was measured.
scale: build/bench/.installed
	build/bench/bin/python -m benchmarks.simulation $(if $(STORE),--store,--measure)

## Build the documentation as a site, build/site/index.html; a warning is an error.
docs: build/docs/.installed
	rm -rf build/site
	build/docs/bin/python -m sphinx -q -W --keep-going docs build/site

## Check that the pages which the documentation links to exist; asks the internet.
links: build/docs/.installed
	build/docs/bin/python -m sphinx -q -W --keep-going -b linkcheck docs build/links

## Build the wheel into build/dist.
wheel:
	rm -rf build/dist
	$(PIP) wheel -q --no-deps -w build/dist .

## Renew requirements.lock, the versions and hashes of what the image contains; asks PyPI.
lock: .venv/.installed
	.venv/bin/uv pip compile pyproject.toml --quiet --upgrade --generate-hashes --no-emit-index-url \
		--python-version 3.12 --python-platform linux --custom-compile-command 'make lock' \
		$(addprefix --extra ,$(IMAGE)) --group image -o requirements.lock

## Remove what the other targets made.
clean:
	rm -rf build .venv .mypy_cache .pytest_cache .ruff_cache

.venv/.installed: pyproject.toml
	$(FRESH)
	.venv/bin/python -m pip install -q -e '.[$(EXTRAS)]' --group dev
	touch $@

build/demo/.installed: $(SOURCES)
	$(call INSTALL,demo)

build/test/.installed: $(SOURCES)
	$(call INSTALL,$(EXTRAS),test)

# Editable: each job has a copy of the library, which is found first.
build/mutate/.installed: pyproject.toml
	$(FRESH)
	$(@D)/bin/python -m pip install -q -e '.[$(EXTRAS)]' --group mutate
	touch $@

build/python3.%/.installed: $(SOURCES)
	$(call INSTALL,$(EXTRAS),test)

build/browser/.installed: $(SOURCES)
	$(call INSTALL,$(EXTRAS),browser)

build/applications/.installed: $(SOURCES)
	$(call INSTALL,$(MEASURED),applications)

build/docs/.installed: $(SOURCES)
	$(call INSTALL,$(DOCUMENTED),docs)

build/bench/.installed: $(SOURCES)
	$(call INSTALL,$(MEASURED),bench)

build/peers/.installed: benchmarks/peers/requirements.txt
	$(FRESH)
	$(@D)/bin/python -m pip install -q -r $<
	touch $@
