# Everything starts here: `make repro` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
# For the stages that DVC starts. The recipes name the folder, as GNU make 3.81 looks for programs in its own PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro test bench study controls few-shot lint format lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

setup: $(READY)  ## make .venv and install the exact versions of requirements.lock

$(READY): pyproject.toml requirements.lock
	@why="$$(LC_ALL=C git rev-parse --is-inside-work-tree 2>&1)" || { case "$$why" in *"not a git repository"*) \
		echo "make: this folder is no git checkout, which DVC needs: clone the repository, or run git init here";; \
		*) echo "make: git does not work here, which DVC needs: $$why";; esac; exit 1; }
	@{ git config user.name && git config user.email; } >/dev/null || \
		echo "make: git does not know you, but the second dvc exp run needs it: git config user.name NAME; git config user.email EMAIL"
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"make: Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

repro: $(READY)  ## run the pipeline: train, score, draw; then open reports/index.html
	$(BIN)/dvc repro

test: $(READY)  ## run all tests
	$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

bench: $(PEERS)  ## compare speed and quality with peers, 2 h; CELEBA=folder for real faces; tables in docs/benchmarks.md
	$(BIN)/python -m benchmarks encoder
	$(BIN)/python -m benchmarks data $(if $(CELEBA),--root $(CELEBA))
	$(BIN)/python -m benchmarks quality $(if $(CELEBA),--root $(CELEBA))

$(PEERS): $(READY) benchmarks/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --requirement benchmarks/requirements.lock
	@touch $@

study: $(READY)  ## patch 3, 6 x heads 4, 8, 16, 32 x three seeds through DVC's queue; writes docs/study/faces.*
	$(BIN)/python -m studies.patch_and_heads queue
	$(BIN)/python -m studies.patch_and_heads gather faces -S recipe=supersample -S model.attention=softmax -S model.depth=4 -S data.scale=4

controls: $(READY)  ## what attention is worth: trains again without it, hours; CELEBA=folder MNIST=folder for real data; writes docs/study/worth.*
	$(BIN)/dvc repro
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.attention_worth queue $(if $(CELEBA),--celeba $(CELEBA)) $(if $(MNIST),--mnist $(MNIST))
	$(BIN)/python -m studies.attention_worth gather
	$(BIN)/dvc repro

few-shot: $(READY)  ## pets from 2, 5, 10, 20 images of each breed; PETS=folder WEIGHTS=name or file SIZE=pixels; writes docs/study/few-shot.*
	$(BIN)/dvc repro
	$(BIN)/python -m studies.few_shot queue $(if $(PETS),--pets $(PETS)) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(SIZE),--size $(SIZE))
	$(BIN)/python -m studies.few_shot gather

lint: $(READY)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## write the installed versions to requirements.lock
	@{ echo "# Exact versions that vitpipe is tested with; written by \`make lock\`."; \
	$(BIN)/pip freeze --all --exclude-editable | sed "s/+cpu$$//" | grep -vE "^(nvidia-|triton|cuda-|pip==)" \
	| grep -vxFf benchmarks/requirements.lock; } > requirements.lock

clean:  ## remove .venv, scratch and what the stages wrote; the DVC cache and what git keeps stay
	rm -rf $(VENV) .resume .bench data/raw data/packed data/weights data/split.csv models reports/explanations reports/figures \
		reports/heatmaps reports/index.html
