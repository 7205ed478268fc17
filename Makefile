# make demo    sets up, runs the main job on a simulated rectum patient, leaves the results in demo-output/
# make test    sets up, checks, tests: what .ci/run does
# make check   style, types and the direction of imports only
# make bench   measures speed, memory and agreement of the DICOM path, and what sampling costs, into docs/results/bench-*.md
# make serve   sets up and serves on http://127.0.0.1:8000
# make comparison CASES=folder   trains and compares the systems of the paper's tables: on the cases of folder/train, the
#                  best weights by those of folder/select, scored on those of folder/val;
#                  MINUTES=12 trains each for so long instead of an hour; RECIPES=model/training/recipes/rectum and
#                  RESULTS=docs/results/rectum-comparison do it for the rectum, SYSTEMS="diffdp baseline" for these alone
# make reverse-process CASES=folder   scores a DiffDP by the paper's 1000 steps and by few; more than an hour without a GPU
# make dicom-table   sets up and writes what becomes of the files in ../shared into docs/dicom-files.md
# make chaos   kills parts of the running service at random and writes what became of the jobs into docs/results/chaos.md;
#                  CHAOS="--jobs 10 --kills 4 --embedded-jobs 5 --embedded-kills 2" makes it short
# make fuzz    posts studies with every kind of fault to the real API and writes what it answered into
#                  docs/results/fuzz.md; FUZZ=200 makes it short, FUZZ_SEED=2 another one
# make load    polls and uploads to one API process and writes what they took into docs/results/load.md;
#                  LOAD="--rate 100 --seconds 10 --uploads 10" makes it short
# make schemathesis   asks the API EXAMPLES times for each operation of its OpenAPI document
# make sbom    writes what is installed and shipped, with licences, into build/sbom.json (CycloneDX)
# make audit   asks the Python Packaging Advisory Database about everything in requirements.lock
# make cohort-pictures   makes ten simulated rectum patients, draws them and judges their plans in docs/results/rectum-cohort.md;
#                  COHORT_CASES="cases/train cases/val cases/test" judges those of a whole imported cohort as well
# make report-example   predicts the simulated patient and takes its report into docs/; pdftoppm (poppler-utils) draws the picture
# make report-schema    writes the JSON schema of reports into docs/
# make page-pictures   draws the page with a simulated patient into docs/page/
# make lock    takes the newest versions that pyproject.toml allows into requirements.lock

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PROGRAMS := redis-server pg_ctlcluster dciodvfy plastimatch dcmdump Orthanc chromium
PACKAGES := redis-server postgresql dicom3tools plastimatch dcmtk orthanc chromium
INSTALLED := $(VENV)/.installed

.PHONY: setup demo serve test check bench chaos fuzz load schemathesis sbom audit programs dicom-table comparison reverse-process cohort-pictures page-pictures report-example \
    report-schema lock
.DEFAULT_GOAL := setup

setup: $(INSTALLED)

# torch comes first and alone: an index or folder that pip is configured with may offer a build for the CPU, and the
# CUDA packages that the other build needs are not in the lock
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint requirements.lock torch
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/diffdp demo -o demo-output

serve: setup
	$(BIN)/diffdp serve

# Two at a time, a thread each; tests of one file share servers and stay together
test: setup programs check
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The paper's Tables 1 and 2 and Figs. 1, 3 and 4; what is trained already is not trained again
SYSTEMS ?= diffdp baseline unet gan deeplabv3plus c3d prunet
CASES ?= cases
COMPARISON ?= runs/comparison
RECIPES ?= model/training/recipes
RESULTS ?= docs/results/comparison
DEVICE ?= auto
MINUTES ?= 60

comparison: setup
	for system in $(SYSTEMS); do \
	    $(BIN)/diffdp train $(RECIPES)/compare-$$system.toml $(CASES)/train $(CASES)/select -o $(COMPARISON)/$$system \
	        --run $(COMPARISON)/run-$$system --minutes $(MINUTES) --device $(DEVICE) || exit 1; \
	done
	$(BIN)/diffdp evaluate $(CASES)/val $(foreach system,$(SYSTEMS),$(system)=$(COMPARISON)/$(system)) \
	    -o $(RESULTS) --device $(DEVICE)

# The paper's 1000 steps against few, and single samples against means, of the same network; on the four of OpenKBP's
# validation patients with the fewest slices, since one takes a quarter of an hour
REVERSE := coarse@coarse ancestral-1000@ancestral:1000:1 ddim-5@ddim:5:1 ddim-10@ddim:10:1 ddim-20@ddim:20:1 \
    ddim-50@ddim:50:1 ddim-10-mean-of-2@ddim:10:2 ddim-10-mean-of-4@ddim:10:4 ddim-10-mean-of-8@ddim:10:8
REVERSED ?= hn-openkbp
FEW ?= pt_209 pt_213 pt_219 pt_221

reverse-process: setup
	$(BIN)/diffdp evaluate $(CASES)/val default=$(REVERSED) $(subst @,=$(REVERSED)@,$(REVERSE)) $(addprefix --only ,$(FEW)) \
	    -o docs/results/reverse-process --device $(DEVICE)

# rt-utils would bring a package named tests and a backport of dataclasses into the environment, so it gets a folder
bench: setup
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/bench rt-utils==1.2.7 opencv-python-headless==5.0.0.93
	$(BIN)/pip install --quiet --no-deps einops==0.8.2
	$(BIN)/python -m tests.bench.dicom --programs $(VENV)/bench
	$(BIN)/python -m tests.bench.sampling --device $(DEVICE)

chaos: setup programs
	$(BIN)/python -m tests.chaos $(CHAOS)

FUZZ ?= 2000
FUZZ_SEED ?= 1

fuzz: setup
	$(BIN)/python -m tests.fuzz --count $(FUZZ) --seed $(FUZZ_SEED) --report docs/results/fuzz.md

load: setup programs
	$(BIN)/python -m tests.load $(LOAD)

EXAMPLES ?= 300

schemathesis: setup
	EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/integration/test_openapi.py

# These tools have an environment of their own, so that what they find is what the service needs
TOOLS := $(VENV)/tools

$(TOOLS):
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1

sbom: setup $(TOOLS)
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	    --output-file build/sbom.json $(BIN)/python
	$(BIN)/python -c 'import json, pathlib; sbom = pathlib.Path("build/sbom.json"); said = json.loads(sbom.read_text()); \
	    said["components"] += json.loads(pathlib.Path("service/web/vendor/components.json").read_text()); \
	    sbom.write_text(json.dumps(said, indent=2))'

# Fails when something is known to be vulnerable, and as well when the database cannot be asked: then nothing is known
audit: $(TOOLS)
	$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock || \
	    { echo 'not passed: the lines above name what is vulnerable, or what could not be looked up, and then nothing is known of the rest'; exit 1; }

# Other people's programs that tests compare with: without them those tests are skipped, but where CI is set none may be.
# Debian puts servers where only root's path leads
programs: export PATH := $(PATH):/usr/sbin
programs:
	@type $(PROGRAMS) >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && type apt-get && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $(PACKAGES); } >/dev/null || true
	@type $(PROGRAMS) >/dev/null || { echo "for all tests, install $(PACKAGES)"; [ -z "$$CI" ]; }

dicom-table: setup
	$(BIN)/python -m tests.conformance.dicom_table

cohort-pictures: setup
	$(BIN)/diffdp cohort rectum --patients 10 --seed 1 -o build/rectum-cohort
	$(BIN)/python -m tests.cohort_pictures build/rectum-cohort docs/results $(COHORT_CASES)

page-pictures: setup programs
	$(BIN)/python -m tests.page_pictures docs/page

report-example: setup
	$(BIN)/diffdp demo -o build/report-example
	cp build/report-example/report.pdf docs/report-example.pdf
	pdftoppm -png -r 62 -l 3 docs/report-example.pdf build/report-example/page
	$(BIN)/python -c 'import sys, numpy; from matplotlib.image import imread, imsave; \
	    imsave("docs/report.png", numpy.hstack([imread(page) for page in sys.argv[1:]]))' build/report-example/page-[1-3].png

report-schema: setup
	$(BIN)/python -m service.reports.schema docs/report.schema.json

# For every Python and platform at once; what only the CUDA build of torch needs is left to torch, which pins it
lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --all-extras \
	    --no-annotate --no-header pyproject.toml | sed -E '/^(nvidia-[^m]|cuda|triton)/d; s/\+cpu//' >requirements.lock
