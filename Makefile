# The two commands are `make book` and `make test`; CONTRIBUTING.md tells the rest.
PYTHON ?= python3
LOCK ?= requirements.txt
BIN := .venv/bin
DOWNLOADS := _build/downloads/autoencoders_measured
GENERATED := book/reference/results/board.txt
PAGES := $(filter-out book/reference/results/% book/_static/gallery/%,$(shell find book -name .ipynb_checkpoints -prune -o -type f -print))
QUICK := AELIB_PROFILE=quick AELIB_DATA_DIR= AELIB_CACHE_DIR=$(CURDIR)/_build/no-data AELIB_PROGRESS=0 TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore::DeprecationWarning
# Two processes side by side, so each has one core to itself.
QUICK += $(addsuffix =1,TF_NUM_INTRAOP_THREADS TF_NUM_INTEROP_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS)

.PHONY: book read pdf zip test lint unit notebooks run stale bench colab lab lock
book: _build/html/index.html
	@echo "The book is at file://$(CURDIR)/$<"

_build/html/index.html: .venv/.installed $(GENERATED) _config.yml _toc.yml $(PAGES) $(wildcard aelib/*.py aelib/*/*.py)
	$(BIN)/jupyter-book build book --config _config.yml --toc $(CURDIR)/_toc.yml --path-output . -W --keep-going --quiet
	@touch $@

$(GENERATED): .venv/.installed tools/results_page.py $(wildcard book/results/*/*.json book/*/*.ipynb)
	$(BIN)/python -m tools.results_page

.venv/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/pip install --quiet -r $(LOCK)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps -e . && touch $@

read: book
	$(BIN)/python -m tools.read

pdf: book
	$(BIN)/python -m tools.pdf $(DOWNLOADS).pdf

zip: book
	$(BIN)/python -m tools.offline $(DOWNLOADS).zip

test: lint unit notebooks

lint: .venv/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

unit: .venv/.installed
	$(QUICK) $(BIN)/pytest -n 2 --disable-socket --allow-hosts=127.0.0.1 --allow-unix-socket --timeout 1200 --cov --cov-report term

notebooks: .venv/.installed
	$(QUICK) $(BIN)/pytest -n 2 --dist loadscope -p no:cacheprovider --nbval-lax --nbval-kernel-startup-timeout 1200 --nbval-cell-timeout 1200 --timeout 1800 book

run: .venv/.installed
	$(BIN)/python -m tools.execute $(CHAPTER)

stale: .venv/.installed
	@$(BIN)/python -m tools.execute --list

bench: .venv/.installed
	$(BIN)/python benchmarks/peers.py

colab: .venv/.installed
	$(BIN)/python -m tools.colab _build/colab

lab: .venv/.installed
	$(BIN)/jupyter lab book

LOCKED := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra book --extra dev pyproject.toml
lock: .venv/.installed
	$(LOCKED) --extra tensorflow -o requirements.txt && $(LOCKED) --extra tensorflow-gpu -o requirements-gpu.txt
