# Everything runs in virtual environments under build/, made from the built
# wheel: what is tested is what is shipped.
PYTHON ?= python3
SECONDS ?=
SEED ?=
MESSAGES ?=
QUICK ?=
REPORT ?=
SCREENSHOTS ?=
CHROMIUM ?= $(shell for name in chromium chromium-browser google-chrome; do command -v $$name && break; done)
# A fresh environment of the built wheel with an extra. `venv --without-pip` and pip's
# --python work where Debian's python3-venv is absent.
define INSTALL
$(MAKE) wheel
$(FRESH)
$(@D)/bin/python -m pip install -q "$$(ls build/dist/*.whl)[$(1)]"
touch $@
endef
FRESH = rm -rf $(@D) && $(PYTHON) -m venv --without-pip $(@D) \
	&& $(PYTHON) -m pip --python $(@D)/bin/python install -q pip
SOURCES = $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md LICENSE

.PHONY: demo test browser chaos bench docs links wheel dev clean

## The main job on an embedded Redis; SECONDS=20 ends by itself.
demo: build/demo/.installed
	build/demo/bin/python -m celery_segment.demo $(if $(SECONDS),--seconds $(SECONDS))

## Format, lint, types, and every test, against the installed wheel.
test:
	rm -f build/test/.installed
	$(MAKE) build/test/.installed
	build/test/bin/ruff format --check .
	build/test/bin/ruff check .
	build/test/bin/mypy
	build/test/bin/python -m pytest -n 2 --dist worksteal

## Flower and the example shops in the system's Chromium; SCREENSHOTS=1 renews those of the docs.
browser:
	@test -n "$(CHROMIUM)" || { echo "no Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"; exit 1; }
	$(MAKE) build/browser/.installed
	CHROMIUM="$(CHROMIUM)" SCREENSHOTS=$(if $(SCREENSHOTS),docs/images) \
		build/browser/bin/python -m pytest tests/browser

## Faults on every process for SECONDS=600, as SEED=7 decides; REPORT=FILE keeps the ledger.
## MESSAGES=1000000 tracks so many instead, while a worker is killed every five seconds.
chaos: build/test/.installed
	PYTHONPATH=tests build/test/bin/python -m chaos --seconds $(or $(SECONDS),120) \
		--seed $(or $(SEED),7) $(if $(MESSAGES),--messages $(MESSAGES)) $(if $(REPORT),--report $(REPORT))

## Every figure beside its peers, which get an environment of their own; QUICK=1 in three minutes.
bench: build/bench/.installed build/peers/.installed
	SEGMENT_BENCH_PEERS=build/peers/bin/python build/bench/bin/python -m benchmarks $(if $(QUICK),--quick)

## The documentation as a site, build/site/index.html; a warning is an error.
docs: build/docs/.installed
	rm -rf build/site
	build/docs/bin/python -m sphinx -q -W --keep-going docs build/site

## Whether the pages that the documentation links to are there: asks the internet.
links: build/docs/.installed
	build/docs/bin/python -m sphinx -q -W --keep-going -b linkcheck docs build/links

build/peers/.installed: benchmarks/peers/requirements.txt
	$(FRESH)
	$(@D)/bin/python -m pip install -q -r $<
	touch $@

wheel:
	rm -rf build/dist
	$(PYTHON) -m pip wheel -q --no-deps -w build/dist .

build/demo/.installed: $(SOURCES)
	$(call INSTALL,demo)

build/test/.installed: $(SOURCES)
	$(call INSTALL,test)

build/browser/.installed: $(SOURCES)
	$(call INSTALL,browser)

build/docs/.installed: $(SOURCES)
	$(call INSTALL,docs)

build/bench/.installed: $(SOURCES)
	$(call INSTALL,bench)

## An editable environment in .venv for working on the library.
dev: .venv/fresh
	.venv/bin/python -m pip install -q -e '.[test]'

.venv/fresh:
	$(FRESH)
	touch $@

clean:
	rm -rf build .venv .mypy_cache .pytest_cache .ruff_cache
