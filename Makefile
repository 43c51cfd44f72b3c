# make app    installs what is missing and starts the app on http://127.0.0.1:7860
# make test   installs what tests need; lint, types and all tests
# make help   everything else

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

# An install is done again only when what it was made from has changed. The marks lie in the
# environment itself, so deleting .venv forgets them too.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

# Where Python is told to keep no bytecode, every process would compile all of this project anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help app test lint format install install-dev docs space-card benchmarks clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

app: $(INSTALLED) ## install if needed and start the app on http://127.0.0.1:7860
	$(PY) app.py

test: lint ## install what tests need, then lint, types and all tests
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED_DEV) ## ruff and mypy only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED_DEV) ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED) ## the environment of the app, not started

install-dev: $(INSTALLED_DEV) ## the environment of the tests, not run

docs: $(INSTALLED_DEV) ## write docs/settings.md and docs/scaling.md again from the code
	$(PY) docs/make_settings.py
	$(PY) docs/make_scaling.py

space-card: $(INSTALLED_DEV) ## write README's front matter again from spaces_config.yaml
	$(PY) -m qa_lora.spaces

benchmarks: $(INSTALLED_DEV) ## start-up time and the demo, against their limits
	$(PY) benchmarks/startup.py
	$(PY) benchmarks/demo.py

clean: ## remove the environment and every cache, keep runs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.txt pyproject.toml | $(PY)
	$(PY) -m pip install -r requirements.txt
	$(PY) -m pip install --quiet --no-deps --editable .
	touch $@

$(INSTALLED_DEV): requirements-dev.txt $(INSTALLED)
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@
