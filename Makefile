# Every target needs .venv, which is built on first use and brought up to date when pyproject.toml changes.
#   make PYTHON=/path/to/python3.12 test    builds it with another interpreter

PYTHON ?= python3
STAMP := .venv/.complete
OLDEST := .venv-oldest/.complete

# pytest and hypothesis print and draw differently where CI is set. Set always, both are alike everywhere.
export CI := true

# Two targets of one call share .venv, and `speed` measures time: never side by side, even with -j.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo docs test test-long oldest lint speed calibration

help:
	@echo "make demo    forecast from built-in runs, with figures"
	@echo "make docs    build the site of the documentation in site/"
	@echo "make test    run the tests"
	@echo "make test-long  run the longest tests, which make test leaves out"
	@echo "make oldest  run the fast tests and a choice of slow ones with the oldest dependencies that are allowed"
	@echo "make lint    check style, format and types"
	@echo "make speed   measure how long fits take, beside peers that are installed (an hour), and write the page"
	@echo "make calibration  score every method on published families (hours; may be stopped) and write the page"

demo: $(STAMP)
	.venv/bin/bayescale demo

# The variable turns off a notice about later versions of MkDocs.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

# Tests that simulate many data sets or compile many models have a target of their own; `.ci/run` runs both.
test: $(STAMP)
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not long"

test-long: $(STAMP)
	.venv/bin/python -m pytest -n 2 --dist loadfile -m long

# Not a part of `test`, which it takes as long as. What old releases say of one another's deprecated functions is
# nothing that this package could change.
oldest: $(OLDEST)
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile -m "(not slow or oldest) and not long" -W ignore::DeprecationWarning

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright --pythonpath .venv/bin/python

speed: $(STAMP)
	.venv/bin/python -m benchmarks speed
	.venv/bin/python -m benchmarks pages speed

# Downloads what is missing, scores what is missing; stopped at any point, the next call continues. LCDB comes with an
# extra, unless BAYESCALE_LCDB says where it is.
calibration: $(STAMP)
	@[ -n "$$BAYESCALE_LCDB" ] \
		|| .venv/bin/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("lcdb") is None)' \
		|| if command -v uv >/dev/null 2>&1; then uv pip install --python .venv/bin/python -e '.[lcdb]'; \
		else .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[lcdb]'; fi
	.venv/bin/python -m benchmarks run
	.venv/bin/python -m benchmarks pack
	.venv/bin/python -m benchmarks pages calibration decisions

# The stamp is written last, so a folder without it is half built (or not ours) and is built anew, while a folder
# whose stamp is merely old is brought up to date. uv finds or fetches an interpreter by itself; without uv,
# $(PYTHON) has to be new enough.
$(STAMP): pyproject.toml
	@if [ ! -e $@ ] || ! .venv/bin/python -c '' 2>/dev/null; then rm -rf .venv; fi
	@rm -f $@
	@if command -v uv >/dev/null 2>&1; then \
		{ [ -d .venv ] || uv venv --python '>=3.12' .venv; } \
		&& uv pip install --python .venv/bin/python -e '.[test]'; \
	else \
		{ [ -d .venv ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
		|| { echo "bayescale needs Python 3.12 or newer and '$(PYTHON)' is not: install one (with pyenv," \
			"'pyenv install 3.12'; .python-version then picks it) or run 'make PYTHON=/path/to/python3.12'." >&2; \
			exit 1; }; } \
		&& { [ -d .venv ] || $(PYTHON) -m venv .venv; } \
		&& .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'; \
	fi
	@touch $@

# With the interpreter of .venv, so that only one place looks for it. The folder is built anew whenever a bound changes:
# what is installed already would stay otherwise.
$(OLDEST): pyproject.toml tests/lower_bounds.py | $(STAMP)
	@rm -rf .venv-oldest
	.venv/bin/python -m venv $$(command -v uv >/dev/null 2>&1 && echo --without-pip) .venv-oldest
	.venv/bin/python tests/lower_bounds.py > .venv-oldest/constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --python .venv-oldest/bin/python --constraints .venv-oldest/constraints.txt -e '.[test]'; \
	else \
		.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
			--constraint .venv-oldest/constraints.txt -e '.[test]'; \
	fi
	@touch $@
