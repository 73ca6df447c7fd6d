# `make walk` and `make test` set everything up by themselves; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
DURATION ?= 20
ARGS ?=
WORKERS ?= 2
STAMP := $(VENV)/.setup-done
BIN := $(VENV)/bin
# Without ROS's wheels where a ROS distribution is sourced: its own rclpy is used then.
EXTRAS_WITHOUT_ROS := sim,learn,camera,record,export,baselines,dev

.PHONY: help setup walk check test train bench clean
.DEFAULT_GOAL := help

help: ## List what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## Make .venv with the command `lebot` and all it needs

$(STAMP): setup.py constraints.txt lebot_rl_ros/policy/kernel.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'Python 3.10 or newer is needed: make PYTHON=python3.11 ...'; exit 1; }
	@test -x $(BIN)/python || { echo 'Making $(VENV) with' "$$($(PYTHON) --version) ..."; \
	  $(PYTHON) -m venv $(VENV) || { echo 'Is the venv module there? (apt install python3-venv)'; exit 1; }; }
	@extras=all; if [ -n "$$AMENT_PREFIX_PATH" ] && $(BIN)/python -c 'import rclpy' 2>/dev/null; \
	  then extras=$(EXTRAS_WITHOUT_ROS); echo 'A ROS distribution is sourced and will be used.'; fi; \
	  echo "Installing lebot_rl_ros[$$extras] and what it needs; the first time takes a minute or more ..."; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$$extras]"
	@touch $@
	@echo 'Ready: $(BIN)/lebot'

walk: setup ## Walk in the simulator over real ROS 2: make walk DURATION=20 ARGS='--fault weak:fl_knee@10'
	@$(BIN)/lebot walk --cmd 0.3 0 --duration $(DURATION) $(ARGS)

check: setup ## Format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q test/test_architecture.py

test: check ## Everything that can be checked on this machine
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not alone' $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]  # 5: ARGS choose none of these

train: setup ## Train the shipped policy from nothing
	$(BIN)/lebot train base $(ARGS)

bench: setup ## Run every benchmark; tables are printed
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## Remove what was made, .venv too
	rm -rf $(VENV) build install log dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  lebot_rl_ros/policy/_kernel*.so
