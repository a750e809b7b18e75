# `make compare` and `make test` are the two commands of the README; both work on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: compare test test-all types docs bench clean

compare: .venv/all
	$(BIN)/twinax compare resnet50

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest

test-all: .venv/test
	TWINAX_EXAMPLES=25 $(BIN)/python -m pytest -m ''

types: .venv/test
	$(BIN)/pyright

docs: .venv/all
	$(BIN)/python -m typer twinax.cli utils docs --name twinax --output docs/commands.md
	$(BIN)/python -m twinax.report.run_format docs/run-format.md

bench: .venv/test
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch first, by the exact version: pip then takes a CPU build where one is at hand
.venv/all: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) -e '.[all]'
	touch $@

# timm asks for torchvision, which does not import beside a CPU build of torch: install timm alone
.venv/test: .venv/all
	$(PIP) -e '.[all,test]'
	$(PIP) --no-deps timm
	touch $@

clean:
	rm -rf .venv build src/*.egg-info
