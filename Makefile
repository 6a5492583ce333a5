# Every target is one line that calls ci/; arguments go through ARGS: make status ARGS=--json
SHELL := /bin/bash
MAKE_ENVIRONMENT := ci/environment
# What ci/tools installs.
export PATH := $(CURDIR)/.local/bin:$(PATH):$(lastword $(wildcard /usr/lib/postgresql/*/bin))
OPS := $(MAKE_ENVIRONMENT) && .venv/bin/airflow-ops
PYTEST := $(MAKE_ENVIRONMENT) && .venv/bin/pytest
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  \033[36mmake %-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ On this machine

.PHONY: up
up: ## start Airflow on this machine and run the flights pipeline
	@$(OPS) up $(ARGS)

.PHONY: down
down: ## stop the Airflow of this machine
	@$(OPS) down $(ARGS)

.PHONY: status
status: ## what runs here and what it has loaded
	@$(OPS) status $(ARGS)

##@ Tests

.PHONY: test
test: ## everything that needs no cluster
	@$(MAKE_ENVIRONMENT) && ci/test $(ARGS)

.PHONY: lint
lint: ## ruff, mypy, yamllint, shellcheck
	@$(MAKE_ENVIRONMENT) && ci/lint

.PHONY: verify
verify: ## are the files that are made from others up to date
	@$(MAKE_ENVIRONMENT) && ci/generate --check

.PHONY: commits
commits: ## are the commits since a base Conventional Commits: make commits BASE=origin/main
	@$(MAKE_ENVIRONMENT) && ci/commits $(or $(BASE),origin/main)

.PHONY: secrets-scan
secrets-scan: ## is there a secret in the files or in a rendered manifest: gitleaks
	@$(MAKE_ENVIRONMENT) && ci/secrets-scan

.PHONY: sbom
sbom: ## list what is in the image's lock: out/sbom.json
	@$(MAKE_ENVIRONMENT) && mkdir -p out && .venv/bin/cyclonedx-py requirements image/requirements.lock --output-file out/sbom.json

# Strict: a package that cannot be looked up is an error, not a package without vulnerabilities.
.PHONY: audit
audit: ## what is known against the packages of the image's lock (asks the internet)
	@$(MAKE_ENVIRONMENT) && .venv/bin/pip-audit --strict --require-hashes --disable-pip --requirement image/requirements.lock

.PHONY: image
image: ## build the image, and look what is known against it and whether it imports the DAGs: make image IMAGE=airflow-platform:test
	@ci/image $(or $(IMAGE),airflow-platform:test)

.PHONY: scan-images
scan-images: ## what is known against the images of an environment that are not ours: make scan-images ENV=prod
	@$(MAKE_ENVIRONMENT) && ci/scan-images $(ENV)

.PHONY: signatures
signatures: ## does Kyverno let start what is signed, and nothing else (make tools ARGS=signatures)
	@$(PYTEST) -p no:helm-charts tests/ops/delivery/test_signatures.py $(ARGS)

.PHONY: alerts
alerts: ## do the alerts fire where they should: promtool's checks and tests
	@$(PYTEST) -p no:helm-charts tests/alerts $(ARGS)

.PHONY: test-local
test-local: ## start the platform on this machine, break it, and look at the rows (minutes)
	@$(PYTEST) -p no:helm-charts tests/local $(ARGS)

.PHONY: e2e
e2e: ## tests on the cluster of KUBECONFIG, where they deploy dev (half an hour)
	@$(PYTEST) tests/e2e --cluster-type existing --kubeconfig "$${KUBECONFIG:-$$HOME/.kube/config}" $(ARGS)

.PHONY: e2e-upgrade
e2e-upgrade: ## upgrades of dev on the cluster of KUBECONFIG, with faults and a migration; deletes dev (two hours)
	@$(PYTEST) tests/e2e/test_upgrade.py tests/e2e/test_upgrade_faults.py tests/e2e/test_upgrade_migration.py tests/e2e/test_dags_in_image.py --upgrade-faults --cluster-type existing --kubeconfig "$${KUBECONFIG:-$$HOME/.kube/config}" $(ARGS)

.PHONY: e2e-argocd
e2e-argocd: ## dev by Argo CD and commits on the cluster of KUBECONFIG; deletes dev (45 minutes)
	@$(PYTEST) tests/e2e/test_argocd.py --argocd --cluster-type existing --kubeconfig "$${KUBECONFIG:-$$HOME/.kube/config}" $(ARGS)

##@ Environments, without a cluster

.PHONY: render
render: ## write every manifest: make render ENV=dev OUT=out/dev
	@$(OPS) render $(ENV) $(or $(OUT),out/$(ENV)) $(ARGS)

.PHONY: validate
validate: ## values, schemas and policies of every environment
	@$(OPS) validate $(ENV) $(ARGS)

.PHONY: capacity
capacity: ## does what an environment asks for fit: make capacity ENV=prod
	@$(OPS) capacity $(ENV) $(ARGS)

.PHONY: diff
diff: ## manifests against a ref or the cluster: make diff ENV=dev ARGS=--live
	@$(OPS) diff $(ENV) $(ARGS)

.PHONY: review
review: ## what the working tree changes in each environment, as Markdown: make review BASE=origin/main
	@$(MAKE_ENVIRONMENT) && ci/review $(or $(BASE),origin/main)

##@ Environments, on a cluster

.PHONY: cluster-up
cluster-up: ## make a cluster on this machine: make cluster-up CLUSTER=kind|lab
	@$(OPS) cluster-up --cluster $(or $(CLUSTER),kind) $(ARGS)

.PHONY: cluster-down
cluster-down: ## take it down with everything in it
	@$(OPS) cluster-down --cluster $(or $(CLUSTER),kind) $(ARGS)

.PHONY: deploy
deploy: ## bring an environment to what values/ say: make deploy ENV=dev
	@$(OPS) deploy $(ENV) $(ARGS)

.PHONY: smoke
smoke: ## run the canary on an environment: make smoke ENV=dev
	@$(OPS) smoke $(ENV) $(ARGS)

.PHONY: backup
backup: ## dump the metadata database to object storage: make backup ENV=dev
	@$(OPS) backup $(ENV) $(ARGS)

.PHONY: restore
restore: ## bring the metadata database back from a backup: make restore ENV=dev
	@$(OPS) restore $(ENV) $(ARGS)

##@ This repository

.PHONY: environment
environment: ## make the locked Python environment in .venv
	@$(MAKE_ENVIRONMENT)

.PHONY: tools
tools: ## install the programs that the tests run
	@ci/tools $(ARGS)

.PHONY: lock
lock: ## resolve the requirements and write their locks
	@$(MAKE_ENVIRONMENT) && ci/lock

.PHONY: propose
propose: ## open a pull request with a release, or with the one that an environment is to follow: make propose WHAT=prod VERSION=v0.2.0
	@$(OPS) propose -- "$$WHAT" "$$VERSION"

.PHONY: publish
publish: ## publish the version that was last released on main: images, tag, notes
	@$(OPS) publish

.PHONY: comment
comment: ## write a file under a pull request: make comment PULL_REQUEST=1 FILE=review.md
	@ci/comment "$$PULL_REQUEST" <$(FILE)

.PHONY: e2e-images
e2e-images: ## build what only e2e-upgrade needs, and load it into kind
	@$(MAKE_ENVIRONMENT) && ci/e2e-images

.PHONY: deps
deps: ## fetch the official chart, checked by its digest
	@$(OPS) deps $(ARGS)

.PHONY: generate
generate: ## write the files that are made from others: dashboards, tables, READMEs of the charts
	@$(MAKE_ENVIRONMENT) && ci/generate
