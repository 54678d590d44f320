# Two commands are all a fresh machine needs: `make demo` and `make test`.
# Both set up .venv first; nothing is done twice while pyproject.toml and the constraints stay as they are.

VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := requirements/constraints.txt
INSTALLED := $(VENV)/.installed
DISPLAYED := sh scripts/with-display.sh

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup system demo test lint typecheck docs docs-images bench benchmarks-page clean

help:  ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: system $(INSTALLED)  ## create .venv and install the package and its tools into it

demo: setup  ## align and cluster simulated particles, in napari where there is a display
	$(BIN)/napari-harmony demo

test: lint typecheck  ## check style and types, then run the tests
	OMP_NUM_THREADS=1 $(DISPLAYED) $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadgroup

lint: setup  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: setup  ## check types
	$(BIN)/mypy

docs: setup  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-images: setup  ## draw the pictures of the documentation anew
	PYTHONPATH=docs $(DISPLAYED) $(BIN)/python -m pictures $(if $(MICROTUBULE),--microtubule $(MICROTUBULE))

bench: setup  ## run the 2D and the 3D benchmark and print their tables
	$(BIN)/python benchmarks/particles_2d.py
	$(BIN)/python benchmarks/subtomograms_3d.py

benchmarks-page: setup  ## write docs/benchmarks.md from what the benchmarks measured
	$(BIN)/python benchmarks/page.py

clean:  ## remove what was built, except .venv
	rm -rf build dist site napari-harmony-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@sh scripts/system-libraries.sh requirements/system.txt

# The system libraries come first: on Debian they may include the interpreter and its venv module.
$(BIN)/python: | system
	@sh scripts/create-venv.sh $(VENV)

$(INSTALLED): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing napari-harmony into $(VENV); the first time this takes some minutes."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--constraint $(CONSTRAINTS) --editable ".[dev,docs]"
	@touch $@
