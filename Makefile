# One environment in .venv, made on first use and renewed when requirements/ changes.

PYTHON ?= python3
OUT ?= out/demo
INPUT ?=
ARGS ?=

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-installed
DEVELOP := $(VENV)/.develop-installed
KERNEL := $(wildcard darkseg_ros/model/backends/finish/kernel* darkseg_ros/model/*.c)
CLOSING_LINE := ros2_ws/log/pytest_closing_line

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Another environment's ROS wheels mark the processes they start; ours would then not find their libraries.
ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport LD_LIBRARY_PATH
endif

ifdef ROS_DISTRO
# A sourced ROS 2 keeps its own NumPy, which its messages are compiled for, and OpenCV; ml-dtypes follows NumPy.
VENV_OPTIONS := --system-site-packages
RUNTIME_REQUIREMENTS := requirements/runtime.txt
CONSTRAINTS := $(VENV)/constraints-$(ROS_DISTRO).txt
else
VENV_OPTIONS :=
RUNTIME_REQUIREMENTS := requirements/runtime.txt requirements/ros_wheels.txt
CONSTRAINTS := requirements/constraints.txt
endif

PIP_INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check

.PHONY: help demo train test mutants soak scale bench gpu sbom check clean

help:
	@sed -n -E 's/^([a-z]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 12

demo: $(RUNTIME)  ## a night drive through the ROS 2 node, result in out/demo [INPUT=video or bag] [OUT=folder]
	@exec $(VENV_PYTHON) -m darkseg_ros.commands.demo --out "$(OUT)" $(if $(INPUT),--input "$(INPUT)")

train: $(DEVELOP)  ## a small network trained on generated scenes, exported and run in the demo, minutes [ARGS=key=value]
	@$(VENV_PYTHON) -m training.data generate --images 96 --out out/train/data
	@$(VENV_PYTHON) -m training.train_segmenter --config training/configs/segmenter_first.yaml $(ARGS)
	@$(VENV_PYTHON) -m engines.export --checkpoint out/train/run/checkpoints/last.pt --name first_model --out out/train
	@$(VENV_PYTHON) -m darkseg_ros.commands.demo --bundle out/train/first_model --out out/train/demo

test: $(DEVELOP)  ## build the colcon workspace and run every test
	@rm -f $(CLOSING_LINE)
	@cd ros2_ws && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" colcon build --symlink-install
	@status=0; \
	(cd ros2_ws && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONUNBUFFERED=1 \
		colcon test --return-code-on-test-failure --event-handlers console_direct+ \
		--pytest-args --numprocesses 2 --dist loadgroup --no-loadscope-reorder) || status=$$?; \
	{ grep -E '^=+ .* in [0-9.]+s.* =+$$' ros2_ws/log/latest_test/darkseg_ros/stdout.log || true; } \
		| tail -n 1 | tee $(CLOSING_LINE); \
	if [ $$status -eq 0 ] && ! grep -q -E '\b[1-9][0-9]* passed\b' $(CLOSING_LINE); then \
		echo "make test: expected tests to pass, none ran; see ros2_ws/log/latest_test" >&2; status=1; \
	fi; \
	exit $$status

mutants: $(DEVELOP)  ## whether the tests of the pure core notice planted faults, a sample in minutes [ARGS=--help]
	@exec $(VENV_PYTHON) -m tests.mutants $(ARGS)

soak: $(DEVELOP)  ## 2.88 million frames, random faults, overload, camera health on real nights: an hour and a half
	@$(VENV_PYTHON) -m pytest -m soak tests/ros tests/core/stream

scale: $(DEVELOP)  ## a thousand generated drives on a two-node Ray cluster, one node killed, about 10 minutes
	@$(VENV_PYTHON) -m pytest -m soak tests/core/fleet
	@exec $(VENV_PYTHON) -m tests.fleet_scale $(ARGS)

bench: $(DEVELOP)  ## the model beside named peers and through the node, 10 minutes, result in out/benchmark [ARGS=--help]
	@exec $(VENV_PYTHON) -m engines.bench $(ARGS)

gpu: $(DEVELOP)  ## what this machine's GPU can tell, 10 minutes, result in out/gpu [ARGS=--help]
	@exec $(VENV_PYTHON) -m engines.gpu $(ARGS)

sbom: $(DEVELOP)  ## CycloneDX list of this environment and the shipped model, in out/sbom.json
	@$(VENV_PYTHON) -m engines.sbom

check: $(DEVELOP)  ## lint, format, types and documentation: ruff, mypy, mkdocs
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy
	@NO_MKDOCS_2_WARNING=1 $(VENV_PYTHON) -m mkdocs build --quiet --strict

clean:  ## remove the environment and everything built or measured
	rm -rf $(VENV) out build ros2_ws/build ros2_ws/install ros2_ws/log darkseg_ros.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV_PYTHON):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "expected Python 3.10 or newer, '$(PYTHON)' is $$($(PYTHON) --version 2>&1); use make PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "expected Python's venv module, '$(PYTHON)' has none; on Debian or Ubuntu: apt install python3-venv" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)

ifdef ROS_DISTRO
$(CONSTRAINTS): requirements/constraints.txt | $(VENV_PYTHON)
	@grep -v -E '^(numpy|opencv-python-headless|ml-dtypes|ros-)' $< > $@
	@$(VENV_PYTHON) -c 'import numpy; print(f"numpy=={numpy.__version__}")' >> $@
endif

$(RUNTIME): requirements/runtime.txt requirements/ros_wheels.txt $(CONSTRAINTS) setup.py setup.cfg $(KERNEL) | $(VENV_PYTHON)
	@echo "Installing the runtime into $(VENV) ..."
	@$(PIP_INSTALL) -c $(CONSTRAINTS) $(addprefix -r ,$(RUNTIME_REQUIREMENTS))
	@# Not `pip install -e`: it would copy launch files and bundles into the environment, where they go stale.
	@$(VENV_PYTHON) -W ignore setup.py --quiet develop --no-deps --script-dir $(VENV)/bin
	@touch $@

$(DEVELOP): requirements/develop.txt requirements/cluster.txt $(RUNTIME)
	@echo "Installing torch, colcon and the linters into $(VENV) (about 5 GB) ..."
	@$(PIP_INSTALL) -c $(CONSTRAINTS) -r requirements/develop.txt
	@touch $@
