# agproxy: `make run` and `make test` need Python 3.11+ and nothing else.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=
FUZZ_SECONDS ?= 20

.PHONY: help run test lint types cov fuzz docs bench zipapp audit clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

run: $(VENV)/run  ## start the gateway on port 8045; without an account, on the simulated Gemini (ARGS="--port 9000")
	@AGPROXY_SIMULATE=$${AGPROXY_SIMULATE:-auto} exec $(PY) -m agproxy serve $(ARGS)

test: $(VENV)/test  ## run the tests (ARGS="-k name")
	@$(PY) -m pytest $(ARGS)

lint: $(VENV)/dev  ## ruff: rules and format
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(VENV)/dev  ## mypy --strict, as Linux, Windows and macOS would see it
	@$(PY) -m mypy --platform linux
	@$(PY) -m mypy --platform win32
	@$(PY) -m mypy --platform darwin

cov: $(VENV)/dev  ## the tests with coverage
	@$(PY) -m pytest --cov=agproxy --cov-report=term-missing:skip-covered $(ARGS)

fuzz: $(VENV)/dev  ## hunt for bugs with new examples, FUZZ_SECONDS=20 for each of some 25 tests (ARGS="-k http")
	@AGPROXY_FUZZ_SECONDS=$(FUZZ_SECONDS) $(PY) -m pytest tests/fuzz $(ARGS)

docs: $(VENV)/run  ## write README's tables of settings and routes
	@$(PY) .ci/readme_tables.py

bench: $(VENV)/run  ## what agproxy costs beside a bare relay, some minutes (ARGS="unary fast" for parts)
	@$(PY) tests/bench/bench.py $(ARGS)

zipapp: $(VENV)/run  ## dist/agproxy.pyz: one file with all that it needs
	@$(INSTALL) --require-hashes -r .ci/bundled.txt || $(OFFLINE)
	@$(PY) .ci/build_zipapp.py

audit: $(VENV)/run  ## what is in here, what it touches, a bill of materials, the zipapp verified (ARGS=--wheels)
	@$(PY) .ci/audit.py $(ARGS)

clean:  ## remove what was made
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What each level installs stands in pyproject.toml and nowhere else.
WANTED = $(PY) -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *(x for e in sys.argv[1:] for x in p["optional-dependencies"][e]))'
INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check
OFFLINE = { echo "agproxy: pip could not install what pyproject.toml names; it needs PyPI, or a mirror in PIP_INDEX_URL" >&2; exit 1; }

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "agproxy needs Python 3.11 or newer: install python3, or name it with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "agproxy needs Python 3.11 or newer, $(PYTHON) is older: name another with PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "install venv and pip for $(PYTHON) first, on Debian and Ubuntu: apt install python3-venv python3-pip" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run: pyproject.toml | $(PY)
	@$(INSTALL) $$($(WANTED)) || $(OFFLINE)
	@touch $@

$(VENV)/test: pyproject.toml | $(PY)
	@$(INSTALL) $$($(WANTED) test) || $(OFFLINE)
	@touch $@ $(VENV)/run

$(VENV)/dev: pyproject.toml | $(PY)
	@$(INSTALL) $$($(WANTED) dev) || $(OFFLINE)
	@touch $@ $(VENV)/run $(VENV)/test
