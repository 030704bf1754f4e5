# Every target installs what it needs. Variables: CORPUS, STRATEGY, FOLD, PRESET, WEIGHTS, OPTIONS: make finetune CORPUS=...
# The report takes RUNS and OUT: make report RUNS=runs/ravdess-complete-compact
PYTHON ?= python3
VENV ?= .venv
VENV_TFIO ?= .venv-tfio
VENV_OLDEST ?= .venv-oldest
TESTED_EXTRAS = test pretraining jax notebooks report m4a hub onnx litert openvino serve
SER_TF = $(VENV)/bin/ser-tf

STRATEGY ?= S5
FOLD ?= 1
PRESET ?= compact
WEIGHTS ?=
OPTIONS ?=
RUNS ?= runs
OUT ?= runs/report
TRAINING = --corpus "$(CORPUS)" --preset $(PRESET) $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(OPTIONS)

# The packaged model: MODEL_FOLDS are ten folds of CREMA-D, MODEL_RUN is trained on CREMA-D in the same way and tested on
# RAVDESS. Finished runs are kept; they may be copied from another machine.
CREMA_D ?= data/CREMA-D
RAVDESS ?= data/RAVDESS
MODEL ?= crema_d
MODEL_STRATEGY ?= S1
MODEL_FOLDS ?= runs/$(MODEL)/folds
MODEL_RUN ?= runs/$(MODEL)/final
MODEL_PRESET ?= results/crema_d-complete/S1-fold1-seed0/config.yaml
MODEL_TRAINING = --preset $(MODEL_PRESET) $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(OPTIONS)

DEMO = runs/demo
DEMO_RUN = $(DEMO)/$(if $(CORPUS),run-own,run)
DEMO_CORPUS = $(or $(CORPUS),$(DEMO)/corpus)

.PHONY: setup demo model train-model pack-model pretrain finetune research-model evaluate report test test-oldest test-ray \
	test-tfio browser lint bench fuzz kill clean

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

# The oldest versions that setup.cfg allows.
$(VENV_OLDEST)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV_OLDEST)
	$(VENV_OLDEST)/bin/pip install --quiet uv
	$(VENV_OLDEST)/bin/uv pip install --quiet --python $(VENV_OLDEST)/bin/python --resolution lowest-direct \
		--requirements setup.cfg $(TESTED_EXTRAS:%=--extra %)
	$(VENV_OLDEST)/bin/uv pip install --quiet --python $(VENV_OLDEST)/bin/python --no-deps --editable .
	@touch $@

# Synthesise a corpus (or use CORPUS), train a small network with the emotion triplet loss, and name the emotion of five
# recordings of new speakers; the packaged model names them, too.
demo: setup
	@if [ -z "$(CORPUS)" ]; then $(SER_TF) synthesise $(DEMO_CORPUS); fi
	$(SER_TF) finetune --corpus "$(DEMO_CORPUS)" --preset tiny --strategy S5 --fold 1 --run $(DEMO_RUN) $(OPTIONS)
	@sed -n 's/^test,\([^,]*\),.*/\1/p' $(DEMO_RUN)/predictions.csv | awk 'NR % 7 == 1' | head -5 \
		| sed 's|^|$(DEMO_CORPUS)/|' | tr '\n' '\0' > $(DEMO)/five
	@xargs -0 $(SER_TF) predict --model $(DEMO_RUN) < $(DEMO)/five
	@echo "the packaged model, trained on CREMA-D:"
	@xargs -0 $(SER_TF) predict < $(DEMO)/five

# Train what the packaged model and its card need, and pack it: make model CREMA_D=... RAVDESS=... [WEIGHTS=...]
model: train-model
	$(MAKE) pack-model

train-model: setup
	$(SER_TF) evaluate --corpus "$(CREMA_D)" --strategies $(MODEL_STRATEGY) --run "$(MODEL_FOLDS)" $(MODEL_TRAINING)
	$(SER_TF) cross-corpus --train-on "$(CREMA_D)" --test-on "$(RAVDESS)" --strategy $(MODEL_STRATEGY) \
		--run "$(MODEL_RUN)" $(MODEL_TRAINING)

# Only pack finished runs: make pack-model MODEL_RUN=... MODEL_FOLDS=...
pack-model: $(VENV)/installed-onnx
	$(SER_TF) pack "$(MODEL_RUN)" --fold-runs "$(MODEL_FOLDS)"/$(MODEL_STRATEGY)-fold*/ --name $(MODEL) --out ser_tf/models

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

test: $(TESTED_EXTRAS:%=$(VENV)/installed-%)
	$(VENV)/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --ignore tests/test_ray_engine.py

test-oldest: $(VENV_OLDEST)/installed
	$(VENV_OLDEST)/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --ignore tests/test_ray_engine.py

test-tfio: $(VENV_TFIO)/installed
	$(VENV_TFIO)/bin/pytest tests/test_tfio.py

# Ray's nodes need all cores, so `make test` leaves this out.
test-ray: $(VENV)/installed-test $(VENV)/installed-ray
	$(VENV)/bin/pytest tests/test_ray_engine.py

# Tests open the report and the server's page in a headless Chromium; without one they are skipped.
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

# Read 100,000 damaged files and arguments; kill commands at random moments. See docs/fuzzing.md.
fuzz: $(VENV)/installed-test $(VENV)/installed-m4a
	$(VENV)/bin/python -m tests.fuzz $(OPTIONS)

kill: $(VENV)/installed-test $(VENV)/installed-onnx
	$(VENV)/bin/python -m tests.fuzz.kill $(OPTIONS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache runs/demo
