# The commands of this project. `make demo` and `make test` are all that a user needs: both set up
# what is missing (uv, Python packages, and for the tests the servers) and take no time for it again.

UV ?= $(or $(shell command -v uv),.tools/bin/uv)
RUN = $(UV) run --frozen --no-sync
ARGS ?=
export UV_PYTHON_PREFERENCE ?= system

.DEFAULT_GOAL := help
.PHONY: help demo test quick heat soak lint docs pictures bench clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*##/\1:/p' Makefile

demo: .venv/.synced-demo  ## the whole pipeline on a simulated cloud (ARGS=--exit to end after the tour)
	$(RUN) meterhouse demo $(ARGS)

test: .venv/.synced-dev  ## all tests, against real servers (found, or started for the while)
	$(RUN) python deploy/services run --only postgres,s3,amqp,browser,json,node,snmp -- python tests/run.py $(ARGS)

quick: .venv/.synced-dev  ## the tests that take no time and need no server
	$(RUN) pytest -m "not slow and not service" $(ARGS)

heat: .venv/.synced-dev  ## the tests with a real Heat, which scales a group on alarms; prints what happened when
	$(RUN) python deploy/services run --only heat -- pytest -s tests/heat $(ARGS)

soak: .venv/.synced-dev  ## ten minutes of collection from RabbitMQ at full speed, every damage of every file, a year's commits
	METERHOUSE_TEST_SOAK_SECONDS=600 METERHOUSE_TEST_POLL_SECONDS=120 $(RUN) python deploy/services run --only amqp,postgres,json -- \
		pytest -s tests/slow/test_soak.py tests/slow/test_kill_polling.py tests/unit/test_mending.py \
		tests/unit/test_upkeep.py::test_a_year_leaves_no_more_behind_than_its_last_months tests/slow/test_kill.py tests/slow/test_long_life.py $(ARGS)

lint: .venv/.synced-dev  ## style, types and import layers
	$(RUN) ruff check && $(RUN) ruff format --check && $(RUN) mypy && $(RUN) lint-imports

docs: .venv/.synced-docs  ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict $(ARGS)

pictures: .venv/.synced-dev  ## the pictures of the documentation, of a demonstration of their own
	$(RUN) python deploy/services run --only browser -- python docs/pictures.py

bench: .venv/.synced-dev  ## every benchmark in turn
	$(RUN) python deploy/services run --only amqp,postgres,victoria --optional postgres,victoria -- \
		sh -c 'for file in bench/[!_]*.py; do python "$$file" "$$@" || exit 1; done' bench $(ARGS)

clean:  ## remove what was built; keeps data (.meterhouse), .venv and .tools
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# One stamp for each set of packages, inside .venv so that it goes when that goes.
PACKAGES-demo = --extra api --extra dagster --extra quality --extra amqp --extra postgres --extra s3
PACKAGES-dev = --all-extras --no-extra libvirt --group dev
PACKAGES-docs = --group docs

.venv/.synced-%: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --compile-bytecode --inexact $(PACKAGES-$*)
	@touch $@

.tools/bin/uv:
	python3 -m venv .tools || { apt-get install -y python3-venv && python3 -m venv .tools; }
	.tools/bin/pip install --quiet uv
