# Everything runs in virtual environments under build/, made from the built
# wheel: what is tested is what is shipped.
PYTHON ?= python3
SECONDS ?=
# `venv --without-pip` and pip's --python work where Debian's python3-venv is absent.
MAKE_VENV = rm -rf $(1) && $(PYTHON) -m venv --without-pip $(1) \
	&& $(PYTHON) -m pip --python $(1)/bin/python install -q pip
SOURCES = $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md LICENSE

.PHONY: demo test wheel dev clean

## The main job on an embedded Redis; SECONDS=20 ends by itself.
demo: build/demo/.installed
	build/demo/bin/python -m celery_segment.demo $(if $(SECONDS),--seconds $(SECONDS))

## Format, lint, types, and every test, against the installed wheel.
test: wheel
	$(call MAKE_VENV,build/test)
	build/test/bin/python -m pip install -q "$$(ls build/dist/*.whl)[test]"
	build/test/bin/ruff format --check .
	build/test/bin/ruff check .
	build/test/bin/mypy
	build/test/bin/python -m pytest

wheel:
	rm -rf build/dist
	$(PYTHON) -m pip wheel -q --no-deps -w build/dist .

build/demo/.installed: $(SOURCES)
	$(MAKE) wheel
	$(call MAKE_VENV,build/demo)
	build/demo/bin/python -m pip install -q "$$(ls build/dist/*.whl)[demo]"
	touch $@

## An editable environment in .venv for working on the library.
dev:
	$(call MAKE_VENV,.venv)
	.venv/bin/python -m pip install -q -e '.[test]'

clean:
	rm -rf build .venv .mypy_cache .pytest_cache .ruff_cache
