# The two that matter: `make demo` shows the main job, `make test` proves it.

PYTHON ?= python3
# So many tests at a time: more than there are processors in CI, for many of them wait.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo demo-lvm lab lab-shell torture bench bundle deb wheel collection docs check test clean

# For `make lab CMD='…'`: as it stands, whatever is in it.
export CMD

# A process starts twice as slowly when it compiles its modules each time, and the tests start
# thousands: an environment that forbids Python to keep what it compiled is not followed here.
export PYTHONDONTWRITEBYTECODE :=

help:
	@echo 'make demo    the main job on real images, between two hosts on this machine'
	@echo 'make test    every ring of tests; make test RING="ceph hosts" for some of them'
	@echo 'make demo-lvm  the same on logical volumes, in the lab'
	@echo 'make lab CMD="…", make lab-shell  a command or a shell in the lab'
	@echo 'make torture  hundreds of power cuts, kills and damaged images; some hours'
	@echo 'make bench   virtstore beside rsync, lzop, zstd, virsh, …: docs/benchmarks.md; half an hour'
	@echo 'make deb     a Debian package in build/; make deb ARCH=arm64 for another architecture'
	@echo 'make collection  the modules for Ansible, as a collection'
	@echo 'make wheel   a wheel and its source archive, for pipx and the like'
	@echo 'make bundle  the same tree without a package: build/bundle'
	@echo 'make docs    these and further documents as a site in build/docs'
	@echo 'make check   ruff, mypy --strict, import-linter: seconds'
	@echo 'make setup   the private environment in $(VENV)'

setup: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml
	@dev/packages setup
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "virtstore needs Python 3.11 or later; name one with: make PYTHON=python3.11 …")'
	@echo 'Setting up $(VENV) …'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@dev/packages demo
	@$(BIN)/python -m demo

demo-lvm: setup
	@dev/packages test
	@$(BIN)/python -m tests.lab "$(CURDIR)/$(BIN)/python -m demo.volumes"

lab: setup
	@dev/packages test
	@$(BIN)/python -m tests.lab "$$CMD"

lab-shell: setup
	@dev/packages test
	@$(BIN)/python -m tests.lab --shell

torture: setup
	@dev/packages torture
	VIRTSTORE_TORTURE=1 $(BIN)/pytest \
	    tests/lab/inside/test_volume_contract.py tests/lab/inside/test_other_filesystems.py \
	    tests/lab/test_a_machine_boots.py \
	    tests/lab/test_power_cuts_resize.py tests/lab/inside/test_filesystems_mounted*.py \
	    tests/lab/inside/test_resize_volumes.py tests/lab/inside/test_volumes_live.py tests/lab/inside/test_volumes_guarded.py \
	    tests/lab/inside/test_volumes_snapshots.py tests/lab/inside/test_volumes_thin.py \
	    tests/lab/inside/test_volumes_old_data.py tests/lab/inside/test_a_week.py \
	    tests/tools/test_filesystems_ext_*.py tests/tools/test_filesystems_ntfs_hostile.py \
	    tests/tools/test_live.py \
	    tests/tools/test_move_swap_crashes.py tests/tools/test_resize_crashes.py \
	    tests/tools/test_resize_damaged.py tests/tools/test_resize_sequences.py \
	    tests/tools/test_resize_plans.py tests/tools/test_resize_rows.py \
	    tests/tools/test_fresh_root.py \
	    tests/ceph/test_contract.py tests/ceph/test_kills.py tests/ceph/test_removals.py tests/ceph/test_faults.py tests/ceph/test_full.py tests/ceph/test_two_hosts.py
	$(BIN)/python -m tests.lab.torture

bench: setup
	@dev/packages bench
	@$(BIN)/pip install --quiet --disable-pip-version-check 'obstore>=0.12'
	@$(BIN)/python -m bench

bundle: setup
	@dev/packages release $(ARCH)
	@$(BIN)/python -m release.bundle $(if $(ARCH),--arch $(ARCH)) build/bundle

deb: setup
	@dev/packages release $(ARCH)
	@$(BIN)/python -m release.deb $(if $(ARCH),--arch $(ARCH)) build

wheel: setup
	@$(BIN)/python -m build --outdir build .

collection: setup
	@$(BIN)/ansible-galaxy collection build --force --output-path build ansible_collections/virtstore/storage

docs: setup
	@$(BIN)/python -m mkdocs build --strict
	@echo 'Built: build/docs/index.html (its search needs a server: python3 -m http.server -d build/docs)'

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	@dev/packages test
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile $(addprefix tests/,$(RING))

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
