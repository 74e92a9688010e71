# `make demo` shows virtcpr at work, `make test` tests it; both do all their set-up themselves.

PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/.stamp
RUN    := $(VENV)/bin/python
# How many tests run at once, each in a lab of its own: one leaves half of two CPUs idle.
LABS   ?= 2
# `make repository KEY=NAME`: where the packages go, and which of them.
REPOSITORY ?= build/repository
DEB = ../virtcpr_$(shell dpkg-parsechangelog -S Version)_all.deb
# What `make bench` measured, and `make performance` publishes.
FIGURES ?= build/bench.json

.DEFAULT_GOAL := help
.PHONY: help demo picture test host chaos unit lint bench performance lab repository clean

help:
	@echo 'make demo    upgrade a running guest in the lab and show what changed (root)'
	@echo 'make test    linters, unit, contract and lab tests (root)'
	@echo 'make host    tests on an emulated host with KVM (root)'
	@echo 'make chaos   kill everything at every moment of a swap, a save and a restore, a hundred swaps, every kind of device by mode live, and whatever is too long for the others; hours (root)'
	@echo 'make unit    linters, unit and contract tests: no root, no libvirt, no lab'
	@echo 'make lint    ruff, mypy --strict and the rules of the layers'
	@echo 'make picture draw docs/upgrade.svg and docs/report.svg, the terminal of an upgrade in the lab and a report (root)'
	@echo 'make bench   pause, blackout and what they cost, measured in the lab and on the emulated host; hours (root)'
	@echo 'make performance  write docs/performance.md, docs/performance-host.md and the pictures from what make bench measured'
	@echo 'make lab     build the lab, or find that it is built (root)'
	@echo 'make repository KEY=NAME  build the Debian package, and put it into a signed apt repository (reprepro, GnuPG)'
	@echo 'make clean   remove what the other targets made in this directory'

demo: $(STAMP)
	$(RUN) -m tests.lab.demo

picture: $(STAMP)
	$(RUN) -m tests.lab.picture

# One pytest run, last: its summary is the last line.
test: $(STAMP) lab
	$(RUN) -m pytest --numprocesses $(LABS) --dist loadfile

host: $(STAMP)
	tests/host/host build
	$(RUN) -m pytest -m host tests/host

# Again with the same kills: VIRTCPR_CHAOS_SEED=, which the run prints.
chaos: $(STAMP) lab
	VIRTCPR_CHAOS=full $(RUN) -m pytest tests/lab/recovery/test_chaos.py tests/lab/recovery/test_chaos_parked.py tests/lab/recovery/test_chaos_reboot.py tests/lab/recovery/test_blackout.py \
	    tests/lab/auto/test_by_itself.py tests/lab/reboot/test_save.py \
	    $(patsubst %,tests/lab/transfer/test_%.py,helpers desktop ports passt live)
	VIRTCPR_CHAOS=full $(RUN) -m pytest -m thorough tests/lab
	VIRTCPR_MODE=live VIRTCPR_CHAOS=full $(RUN) -m pytest \
	    $(patsubst %,tests/lab/transfer/test_%.py,desktop displays helpers hotplug images kinds machines passt placement tpm virtiofs)
	VIRTCPR_MODE=live $(RUN) -m pytest -k "there_and_back or password_goes" $(patsubst %,tests/lab/transfer/test_%.py,ports spice spice_socket)

unit: $(STAMP)
	$(RUN) -m pytest tests/unit tests/contract

lint: $(STAMP)
	$(RUN) -m pytest -m lint tests/unit

bench: $(STAMP)
	mkdir -p build && rm -f $(FIGURES)
	$(RUN) -m tests.bench --json $(FIGURES)

performance: $(STAMP)
	$(RUN) -m pip install --quiet --editable '.[bench]'
	$(RUN) -m tests.bench.publish $(FIGURES)

lab: $(STAMP)
	tests/lab/lab build

repository:
	@[ -n '$(KEY)' ] || { echo 'make repository KEY=NAME: which secret key of GnuPG signs it?' >&2; exit 2; }
	dpkg-buildpackage -us -uc -b $(BUILDFLAGS)
	packages/apt/repository '$(KEY)' $(REPOSITORY) $(DEB)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find virtcpr tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made again when a dependency changes; an interrupted run leaves no stamp and is taken up again.
$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    [ "$$(id -u)" = 0 ] || { echo 'virtcpr: python3 with its venv module is missing (Debian: python3-venv)' >&2; exit 1; }; \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[dev]'
	@touch $@
