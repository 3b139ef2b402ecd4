# The two commands: `make demo` runs the main job end to end, `make test` passes every test.
# Each sets up first what it needs: a virtual environment in .venv, with the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
DAYS := 77
FROM := 2025-01-20
TO := 2025-03-10
DATA ?=
# One more than there are cores: a worker often waits for a database or a process of its own.
WORKERS ?= 3
# Boosters and BLAS spin when their threads outnumber free cores.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1

.PHONY: setup demo demo-web screenshots check test bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else f"fraudwatch needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}: set PYTHON, as in make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -c 'from detectors import IsolationForest, RandomForest; [each.fit([[0], [1], [2], [3]] * 9, [0, 0, 0, 1] * 9).explain([[1]]) for each in (IsolationForest(), RandomForest())]' # compiles them
	touch .venv/ready

# The shipped config, and what the simulated payments of a team that reviews need: in a folder of its own; begins afresh each time.
define DEMO_CONFIG
[storage]
url = "sqlite:///$(abspath $(DEMO))/fraudwatch.db"

[schema]
categorical = ["channel", "country", "status", "method"]

[labels.maturity_by.method]
wallet = "14d"
direct_debit = "45d"

# Criminals here come back to the same customers, cards and shops, so that independent cases of fraud stay few.
[strategy]
min_positives_classifier = 50
endef
export DEMO_CONFIG

demo demo-web screenshots: export FRAUDWATCH_CONFIG := $(DEMO)/config.toml
demo: setup
	@rm -rf $(DEMO)
	$(BIN)/fraudwatch simulate --days $(DAYS) --per-day 1000 --fraud-rate 0.012 --seed 7 --reviewers --output $(DEMO)
	@echo "$$DEMO_CONFIG" > $(DEMO)/config.toml
	$(BIN)/fraudwatch init
	$(BIN)/fraudwatch ingest transactions $(DEMO)/transactions.parquet $(DEMO)/updates.parquet
	$(BIN)/fraudwatch ingest labels $(DEMO)/labels.parquet
	$(BIN)/fraudwatch backfill --from $(FROM) --to $(TO)
	$(BIN)/fraudwatch summary --from $(FROM) --to $(TO)
	@printf '\nTo go on here: export FRAUDWATCH_CONFIG=%s PATH=%s:$$PATH\n' $(abspath $(DEMO))/config.toml $(abspath $(BIN))
	@echo "make demo-web opens the console on it."

# The console on the demo's database, which is made first where there is none; each time with another password.
demo-web: setup
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", 8321)).close()' 2>/dev/null || \
	{ echo "Port 8321 is in use: is the console open already? Its password stays as it was." >&2; exit 1; }
	@test -f $(DEMO)/fraudwatch.db || $(MAKE) demo
	@$(BIN)/fraudwatch init
	@password=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(12))'); \
	$(BIN)/fraudwatch users list 2>/dev/null | grep -q '^demo ' && change=password || change='add --role administrator'; \
	printf '%s\n' "$$password" | $(BIN)/fraudwatch users $$change demo >/dev/null && \
	printf '\nLog in at http://127.0.0.1:8321 as demo with the password %s\n\n' "$$password"
	$(BIN)/fraudwatch serve

# Pictures of the console on the demo's data: those of the documentation into docs/images, all of them into $(DEMO)/screenshots.
screenshots: setup
	@test -f $(DEMO)/fraudwatch.db || $(MAKE) demo
	@$(BIN)/fraudwatch init
	$(BIN)/python -m tests.support.screenshots $(DEMO)/screenshots

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

bench: setup
	$(BIN)/python -m benchmarks $(DATA)

clean:
	rm -rf .venv build dist *.egg-info $(DEMO)
