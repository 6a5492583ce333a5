# Every target is one line that calls ci/; arguments go through ARGS: make status ARGS=--json
SHELL := /bin/bash
ENVIRONMENT := ci/environment
OPS := $(ENVIRONMENT) && .venv/bin/airflow-ops
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36mmake %-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: environment
environment: ## make the locked environment in .venv
	@$(ENVIRONMENT)

.PHONY: up
up: ## start Airflow on this machine and run the flights pipeline
	@$(OPS) up $(ARGS)

.PHONY: down
down: ## stop the Airflow of this machine
	@$(OPS) down $(ARGS)

.PHONY: status
status: ## what runs here and what it has loaded
	@$(OPS) status $(ARGS)

.PHONY: test
test: ## everything that needs no cluster
	@$(ENVIRONMENT) && ci/test $(ARGS)

.PHONY: lint
lint: ## ruff, mypy, yamllint, shellcheck
	@$(ENVIRONMENT) && ci/lint

.PHONY: lock
lock: ## resolve the requirements into locks anew
	@$(ENVIRONMENT) && ci/lock

.PHONY: test-local
test-local: ## start the platform on this machine, break it, and look at the rows (minutes)
	@$(ENVIRONMENT) && .venv/bin/pytest tests/local $(ARGS)
