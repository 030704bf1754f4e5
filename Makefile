# Every target installs what it needs. CORPUS, STRATEGY, FOLD, PRESET, WEIGHTS and OPTIONS may be given: make finetune CORPUS=...
# For the report RUNS and OUT: make report RUNS=runs/ravdess-complete-compact
PYTHON ?= python3
VENV ?= .venv
VENV_TFIO ?= .venv-tfio
SER_TF = $(VENV)/bin/ser-tf

STRATEGY ?= S5
FOLD ?= 1
PRESET ?= compact
WEIGHTS ?=
OPTIONS ?=
RUNS ?= runs
OUT ?= runs/report
TRAINING = --corpus "$(CORPUS)" --preset $(PRESET) $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(OPTIONS)

DEMO = runs/demo
DEMO_CORPUS = $(or $(CORPUS),$(DEMO)/corpus)

.PHONY: setup demo pretrain finetune research-model evaluate report test test-ray test-tfio browser lint bench fuzz kill clean

setup: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-%: setup.cfg $(VENV)/installed
	$(VENV)/bin/pip install --quiet --editable ".[$*]"
	@touch $@

$(VENV_TFIO)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV_TFIO)
	$(VENV_TFIO)/bin/pip install --quiet --editable ".[tfio]" tensorflow==2.17.1 pytest hypothesis
	@touch $@

# Synthesise a corpus (or take CORPUS), train a small network with the emotion triplet loss, name five recordings of
# speakers it has never heard.
demo: setup
	@if [ -z "$(CORPUS)" ]; then $(SER_TF) synthesise $(DEMO_CORPUS); fi
	$(SER_TF) finetune --corpus "$(DEMO_CORPUS)" --preset tiny --strategy S5 --fold 1 --run $(DEMO)/run $(OPTIONS)
	@sed -n 's/^test,\([^,]*\),.*/\1/p' $(DEMO)/run/predictions.csv | awk 'NR % 7 == 1' | head -5 \
		| sed 's|^|$(DEMO_CORPUS)/|' | tr '\n' '\0' | xargs -0 $(SER_TF) predict $(DEMO)/run

pretrain: $(VENV)/installed-pretraining
	$(SER_TF) pretrain --corpus $(CORPUS) --preset $(PRESET) $(OPTIONS)

finetune: setup
	$(SER_TF) finetune $(TRAINING) --strategy $(STRATEGY) --fold $(FOLD)

# A model of all eight emotions, for research: RAVDESS forbids commercial use. CREMA_D and RAVDESS are the two folders.
research-model: setup
	$(SER_TF) finetune --corpus "$(CREMA_D)" "$(RAVDESS)" --preset $(PRESET) --strategy S1 --fold $(FOLD) \
		--run runs/research-model $(OPTIONS)

evaluate: setup
	$(SER_TF) evaluate $(TRAINING) --strategies $(STRATEGY)

report: $(VENV)/installed-report
	$(SER_TF) report $(RUNS) --out "$(OUT)" $(if $(CORPUS),--corpus "$(CORPUS)")

test: $(VENV)/installed-test $(VENV)/installed-pretraining $(VENV)/installed-jax $(VENV)/installed-notebooks \
		$(VENV)/installed-report $(VENV)/installed-m4a $(VENV)/installed-hub $(VENV)/installed-onnx \
		$(VENV)/installed-litert $(VENV)/installed-openvino $(VENV)/installed-serve
	$(VENV)/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --ignore tests/test_ray_engine.py

test-tfio: $(VENV_TFIO)/installed
	$(VENV_TFIO)/bin/pytest tests/test_tfio.py

# Ray's nodes need the cores for themselves, so this is no part of `make test`.
test-ray: $(VENV)/installed-test $(VENV)/installed-ray
	$(VENV)/bin/pytest tests/test_ray_engine.py

# Tests look at the report and at the server's page in a headless Chromium; without one they are skipped.
browser:
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
		command -v $$name && exit; \
	done; \
	{ apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium-headless-shell; } \
		|| echo "no Chromium could be installed: no page is tested in a browser"

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/installed-bench $(VENV)/installed-serve
	$(VENV)/bin/python -m benchmarks

# Damaged files and arguments by the hundred thousand, and commands that are killed at random moments; see docs/fuzzing.md.
fuzz: $(VENV)/installed-test $(VENV)/installed-m4a
	$(VENV)/bin/python -m tests.fuzz $(OPTIONS)

kill: $(VENV)/installed-test $(VENV)/installed-onnx
	$(VENV)/bin/python -m tests.fuzz.kill $(OPTIONS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache runs/demo
