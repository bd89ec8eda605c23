# Everything a developer does. Only `python3` (3.11 or later, with venv), `make` and CA certificates are needed.
SHELL := /bin/sh
# The system's own Python where it is good enough: others may lie where the server's unprivileged users cannot read.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
PY := .venv/bin/python
WORKERS ?= 2
export PYTHON

.PHONY: serve test test-large soak chaos bench lint format docs venv clean

serve:
	@exec ./agent serve

venv:
	@ERA_DEV=1 ./agent setup

test: venv
	$(PY) -m tests.minio build
	$(PY) -m pytest -n $(WORKERS) --dist loadfile -m 'not large and not soak and not chaos' $(ARGS)

test-large: venv
	$(PY) -m pytest -m large $(ARGS)

soak: venv
	$(PY) -m benchmarks.soak RUNS=$(or $(RUNS),20000)

chaos: venv
	$(PY) -m pytest -m chaos --timeout=0 $(ARGS)

bench: venv
	$(PY) -m benchmarks $(ARGS)

lint: venv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) -m tests.house_rules
	$(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PY) manage.py docs --check

format: venv
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: venv
	$(PY) manage.py docs

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
