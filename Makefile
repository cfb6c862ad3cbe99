# `make demo` and `make test` do all their own set-up; `make help` lists the targets.
# A target's set-up is done again only when a file that it depends on has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .build/stamps
TORCH := torch==2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
RECORDING ?=
COLCON := .build/colcon

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv fetch lint test demo colcon clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo      hands from synthetic cameras, through real ROS 2 nodes, into out/demo/'
	@echo '               RECORDING=DIR: from a recording (a folder of videos, or a bag)'
	@echo 'make test      linters and every test'
	@echo 'make lint      ruff and mypy'
	@echo 'make venv      .venv with the package, ROS 2 and all tools (PYTHON=python3.12: that one)'
	@echo 'make fetch     the landmark networks, into the cache of the user'
	@echo 'make colcon    the colcon build, into $(COLCON)'
	@echo 'make clean     remove everything that was made, but not the cache of the user'

venv: $(STAMPS)/package

# A stamp records one finished step. An interrupted step leaves no stamp and is done again.
$(STAMPS)/python:
	@echo '== Python environment: $(VENV), with $(PYTHON)'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo '$(PYTHON) is older than 3.10: name a newer one, make venv PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	@mkdir -p $(@D) && touch $@

# PyPI's torch for Linux carries 3 GB for NVIDIA GPUs. Without one, take a CPU build: from torch's
# own index if it answers, else whatever pip is set up to find.
$(STAMPS)/torch: $(STAMPS)/python
	@echo '== $(TORCH)'
	@if nvidia-smi >/dev/null 2>&1; then echo '   for the GPU that nvidia-smi reports'; \
	elif $(BIN)/python -c 'from urllib.request import urlopen; urlopen("$(CPU_INDEX)/torch/", timeout=5)' \
	  2>/dev/null; then echo '   no GPU: CPU build from $(CPU_INDEX)'; \
	  index='--extra-index-url $(CPU_INDEX)'; \
	else echo '   no GPU, and no answer from $(CPU_INDEX): the build that pip finds'; fi; \
	$(BIN)/python -m pip install -qq $$index $(TORCH)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/package: $(STAMPS)/torch pyproject.toml setup.py hand_mesh_ros/ros/rosidl_build.py \
    hand_mesh_ros/ros/program.in package.xml $(wildcard msg/*.msg)
	@command -v g++ >/dev/null || \
	  { echo 'The ROS messages need a C++ compiler: apt-get install gcc g++'; exit 1; }
	@echo '== hand_mesh_ros (editable), with ROS 2 and all tools'
	$(BIN)/python -m pip install -qq --editable '.[ros,colcon,dev]' $(TORCH)
	$(BIN)/python -c 'import rclpy, hand_mesh_ros.msg'
	@mkdir -p $(@D) && touch $@

# No stamp: the networks lie outside the tree, and the command checks what is there in no time.
fetch: venv
	@echo '== Landmark networks'
	$(BIN)/hand-mesh fetch

lint: venv
	@echo '== Linters'
	$(BIN)/ruff check .
	$(BIN)/mypy

test: export OMP_NUM_THREADS ?= 1
test: fetch lint
	@echo '== Tests'
	@ends=0; \
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --ignore test/system || ends=1; \
	echo '== Tests of nodes as processes, one at a time'; \
	$(BIN)/python -m pytest test/system || ends=1; \
	exit $$ends

demo: fetch
	@echo '== Demo'
	$(BIN)/hand-mesh demo $(if $(RECORDING),--recording $(RECORDING))

# For a machine whose ROS is the environment's wheels. With ROS installed, `colcon build` does it.
colcon: export PATH := $(CURDIR)/$(BIN):$(PATH)
colcon: export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
colcon: export CMAKE_PREFIX_PATH := $(CURDIR)/$(VENV)
colcon: venv
	@echo '== colcon build'
	colcon --log-base $(COLCON)/log build --base-paths . \
	  --build-base $(COLCON)/build --install-base $(COLCON)/install

clean:
	rm -rf .build $(VENV) out build install log *.egg-info
	rm -rf hand_mesh_ros/msg hand_mesh_ros/ros/_fallback hand_mesh_ros/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
