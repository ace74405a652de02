# `make` lists the targets. Everything below sets itself up: the only needs are python3 (3.10-3.13, with venv), make and
# a package index.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PROFILE ?= quick
SEEDS ?= 0
PYTHON ?= python3
TORCH ?= $(shell grep '^torch==' constraints.txt)
OFFICIAL ?=
DATA ?=
JOBS ?= 2
ARGS ?=

ifeq ($(shell printf '%s\n' '$(SEEDS)' | grep -xE '[0-9]+(,[0-9]+)*'),)
$(error SEEDS=$(SEEDS): give seeds with commas between them, such as SEEDS=0,1,2)
endif

# An environment of your own (conda, for example): PY=python. Otherwise .venv is made here.
ifndef PY
PY := .venv/bin/python
READY := .venv/.ready
endif

# Smoke runs mean nothing: their tables and figures stay apart.
LOCAL := results/local$(if $(filter smoke,$(PROFILE)),/smoke)
REPORT ?= $(if $(filter smoke,$(PROFILE)),$(LOCAL),results)
KS := kolmogorov_smirnov
# Several processes at once, each on one thread.
PARALLEL = $(if $(filter-out 1,$(JOBS)),launcher=local hydra.launcher.n_jobs=$(JOBS))
RUN = $(PY) -m experiments.run -m profile=$(PROFILE) seed=$(SEEDS) $(if $(findstring launcher=,$(ARGS)),,$(PARALLEL)) $(ARGS)
# Rows with a choice of data: theirs.
CLUSTERING_DATA = $(DATA)
WEAK_DATA = $(DATA)
RUN_CLUSTERING = $(RUN) $(if $(CLUSTERING_DATA),profile.clustering.data=$(CLUSTERING_DATA))
RUN_WEAK = $(RUN) $(if $(WEAK_DATA),profile.weak_supervision.data=$(WEAK_DATA))
DATA_OF_ROWS = $(if $(CLUSTERING_DATA),profile.clustering.data=$(CLUSTERING_DATA)) $(if $(WEAK_DATA),profile.weak_supervision.data=$(WEAK_DATA))
RESULTS := $(or $(MVHG_RESULTS_DIR),results)
AGGREGATE = $(PY) scripts/aggregate.py --results $(RESULTS) --profile $(PROFILE) --seeds $(SEEDS) --output $(LOCAL)/metrics
FIGURES_KS = $(PY) scripts/figures_kolmogorov_smirnov.py --metrics $(LOCAL)/metrics --output $(LOCAL)/figures
FIGURES_URN = $(PY) scripts/figures_urn.py --metrics $(LOCAL)/metrics --output $(LOCAL)/figures --tables $(LOCAL)/tables

TABLES_CLUSTERING = $(PY) scripts/tables_clustering.py --metrics $(LOCAL)/metrics --output $(LOCAL)/tables
FIGURES_CLUSTERING = $(PY) scripts/figures_clustering.py --metrics $(LOCAL)/metrics --output $(LOCAL)/figures
TABLES_WEAK = $(PY) scripts/tables_weak_supervision.py --metrics $(LOCAL)/metrics --output $(LOCAL)/tables
FIGURES_WEAK = $(PY) scripts/figures_weak_supervision.py --metrics $(LOCAL)/metrics --output $(LOCAL)/figures

comma := ,
empty :=
space := $(empty) $(empty)
list = $(subst $(space),$(comma),$(strip $(1)))

SERIES := weights draws sizes
ks_rows = $(foreach c,merged exact,$(KS)/$(1)_$(c)_$(2))
DIFFERENTIABLE_ROWS := $(foreach s,$(SERIES),$(call ks_rows,$(s),straight_through))
SAMPLE_ROWS := $(foreach s,$(SERIES),$(call ks_rows,$(s),sample))
ACCURACY_ROWS := $(KS)/accuracy_sample $(KS)/accuracy_straight_through
VERSIONS := full 80 60
clustering_rows = $(foreach v,$(VERSIONS),clustering/$(1)_$(v))
TABLE_2_ROWS := $(foreach p,uniform categorical hypergeometric,$(call clustering_rows,$(p)))
READING_ROWS := $(foreach p,hypergeometric_merged hypergeometric_assignments,$(call clustering_rows,$(p)))
STUDY_ROWS := $(patsubst configs/experiment/%.yaml,%,$(filter-out %/_base.yaml,$(wildcard configs/experiment/clustering_pretraining/*.yaml configs/experiment/clustering_recipe/*.yaml)))
WEAK := weak_supervision
PAIRS := 0 1 3 5
weak_rows = $(foreach m,$(1),$(foreach s,$(PAIRS),$(WEAK)/$(m)_s$(s)))
TABLE_1_ROWS := $(call weak_rows,label_vae ada_vae hgvae evidence_hgvae)
REFERENCE_ROWS := $(call weak_rows,fixed_k fixed_k_joint)
DISENTANGLEMENT_ROWS := $(TABLE_1_ROWS:$(WEAK)/%=disentanglement/%)
ablation_rows = $(patsubst configs/experiment/%.yaml,%,$(wildcard $(addprefix configs/experiment/$(WEAK)_ablation/,$(1))))
ABLATION_ROWS := $(call ablation_rows,*.yaml)
FIGURE_13_ROWS := $(call ablation_rows,final_temperature_*.yaml learning_rate_*.yaml)
URN_ROWS := urn/merged urn/exact urn/maximum_likelihood urn/squared_loss_optimum
REPRODUCE_ROWS := $(DIFFERENTIABLE_ROWS) $(SAMPLE_ROWS) $(ACCURACY_ROWS) $(URN_ROWS) $(TABLE_2_ROWS) $(READING_ROWS) $(TABLE_1_ROWS)
# A row of every experiment and of all that a figure or table compares.
SMOKE_ROWS := $(DIFFERENTIABLE_ROWS) $(URN_ROWS) $(foreach p,uniform categorical hypergeometric,clustering/$(p)_60) clustering_recipe/whole
SMOKE_ROWS += $(foreach m,label_vae ada_vae hgvae evidence_hgvae fixed_k_joint,$(WEAK)/$(m)_s3) $(WEAK)_ablation/learning_rate_high

.PHONY: help
help: ## This list
	@echo "make TARGET [PROFILE=smoke|quick|medium|paper] [SEEDS=0,1,2]"
	@echo "  now: PROFILE=$(PROFILE) SEEDS=$(SEEDS); results of your own go to $(LOCAL), runs to results/runs"
	@echo "  times: 2 CPU cores, the first time plus the minutes of 'install'; a finished run is not run again"
	@echo
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-27s %s\n", $$1, $$2}'
	@echo
	@echo "  PY=python takes the active environment instead of .venv; TORCH=... another build of torch for .venv (GPU);"
	@echo "  ARGS='trainer=gpu logger=disabled' goes to every run; OFFICIAL=FOLDER is a checkout of the authors' code;"
	@echo "  DATA=mnist|digits_5000 for clustering, DATA=mpi3d_sim|mpi3d_toy|mpi3d_realistic|mpi3d_real for weak supervision"
	@echo "  (default: the profile's); JOBS=2 runs at once; MVHG_DATA_DIR=FOLDER is where data files lie;"
	@echo "  clustering-studies takes SEEDS=100,101."

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet "$(TORCH)"
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	.venv/bin/python -m pip install --quiet --constraint .venv/constraints.txt --editable '.[experiments,renderer,dev]'
	@touch $@

.PHONY: install
install: $(READY) ## Environment for experiments and tests in .venv, without TensorFlow (1-3 minutes, 1.7 GB)

# The chain of every run, from cells to the report; what is finished, and pages that are up to date, cost seconds.
PAGES = $(PY) scripts/pages.py --metrics $(LOCAL)/metrics --output $(LOCAL)

.PHONY: reproduce
reproduce: CLUSTERING_DATA = $(filter-out mpi3d_%,$(DATA))
reproduce: WEAK_DATA = $(filter mpi3d_%,$(DATA))
reproduce: $(READY) ## Tables 1, 2, Figures 1-4, 7-10, verdicts, report; one seed (20 to 40 minutes; 200 MB)
	$(RUN) $(DATA_OF_ROWS) experiment=$(call list,$(REPRODUCE_ROWS))
	$(AGGREGATE)
	$(PAGES)

define ks_figure
.PHONY: reproduce-fig$(1)
reproduce-fig$(1): $$(READY)
	$$(RUN) experiment=$$(call list,$$(call ks_rows,$(2),straight_through))
	$$(AGGREGATE)
	$$(FIGURES_KS) --figure $(1)
endef
$(eval $(call ks_figure,1,weights))
$(eval $(call ks_figure,4,weights))
$(eval $(call ks_figure,9,draws))
$(eval $(call ks_figure,10,sizes))

reproduce-fig1: ## Kolmogorov-Smirnov test over the weight of group 2 (a minute)
reproduce-fig4: ## The histograms of groups 1 and 3 that belong to Figure 1 (a minute)
reproduce-fig9: ## Kolmogorov-Smirnov test over the number of draws (a minute)
reproduce-fig10: ## Kolmogorov-Smirnov test over the size of group 2 (a minute)

.PHONY: reproduce-fig7 reproduce-fig8
reproduce-fig7: reproduce-fig8 ## Loss of the urn experiment over the steps (made together with Figure 8; 3 minutes)
reproduce-fig8: $(READY) ## Learned log weights of the urn experiment over the steps (3 minutes)
	$(RUN) experiment=$(call list,$(URN_ROWS))
	$(AGGREGATE)
	$(FIGURES_URN)

.PHONY: reproduce-table2
reproduce-table2: $(READY) ## Clustering: three priors on three versions of the digits (SEEDS=0,1,2,3,4: 20 minutes)
	$(RUN_CLUSTERING) experiment=$(call list,$(TABLE_2_ROWS))
	$(AGGREGATE)
	$(TABLES_CLUSTERING)
	$(FIGURES_CLUSTERING)

.PHONY: reproduce-fig3
reproduce-fig3: $(READY) ## Learned cluster weights beside class frequencies, exact and merged (SEEDS=0,1,2,3,4: 20 minutes)
	$(RUN_CLUSTERING) experiment=$(call list,$(call clustering_rows,hypergeometric) $(READING_ROWS))
	$(AGGREGATE)
	$(TABLES_CLUSTERING)
	$(FIGURES_CLUSTERING)

.PHONY: reproduce-table1
reproduce-table1: $(READY) ## Weak supervision: accuracy on shared and independent latents (15 minutes a seed)
	$(RUN_WEAK) experiment=$(call list,$(TABLE_1_ROWS))
	$(AGGREGATE)
	$(TABLES_WEAK) --only table_1

.PHONY: reproduce-fig2
reproduce-fig2: $(READY) ## Weak supervision: error of the number of independent latents, and bounds (25 minutes a seed)
	$(RUN_WEAK) experiment=$(call list,$(TABLE_1_ROWS) $(REFERENCE_ROWS))
	$(AGGREGATE)
	$(TABLES_WEAK) --only figure_2
	$(FIGURES_WEAK)

# On demand: TensorFlow takes as much room as everything else.
.venv/.disentanglement: .venv/.ready
	.venv/bin/python -m pip install --quiet --constraint .venv/constraints.txt --editable '.[experiments,renderer,dev,disentanglement]'
	@touch $@

.PHONY: install-disentanglement
install-disentanglement: $(if $(READY),.venv/.disentanglement) ## What Figure 11 needs beside the rest: TensorFlow and disentanglement-lib (2 GB)

# On demand, and with versions of its own where Ray's are older.
.venv/.ray: .venv/.ready
	grep -vE '^(cloudpickle|joblib|python-dateutil)==' .venv/constraints.txt > .venv/constraints-ray.txt
	.venv/bin/python -m pip install --quiet --constraint .venv/constraints-ray.txt --editable '.[experiments,renderer,dev,ray]'
	@touch $@

.PHONY: install-ray
install-ray: $(if $(READY),.venv/.ray) ## What launcher=ray needs beside the rest (500 MB)

.PHONY: reproduce-fig11
reproduce-fig11: install-disentanglement ## Disentanglement scores of the models of Table 1 (5 minutes a seed and Table 1's time)
	$(RUN_WEAK) experiment=$(call list,$(TABLE_1_ROWS))
	$(RUN_WEAK) experiment=$(call list,$(DISENTANGLEMENT_ROWS))
	$(AGGREGATE)
	$(TABLES_WEAK) --only figure_11
	$(FIGURES_WEAK) --figure figure_11

.PHONY: reproduce-fig13
reproduce-fig13: $(READY) ## HGVAE over the final temperature and the learning rate (5 minutes a seed)
	$(RUN_WEAK) experiment=$(call list,$(WEAK)/hgvae_s3 $(FIGURE_13_ROWS))
	$(AGGREGATE)
	$(TABLES_WEAK) --only ablation
	$(FIGURES_WEAK) --figure figure_13

.PHONY: weak-supervision-studies
weak-supervision-studies: $(READY) ## Why HGVAE does not find k, and what EvidenceHGVAE needs (15 minutes a seed)
	$(RUN_WEAK) experiment=$(call list,$(WEAK)/hgvae_s3 $(WEAK)/evidence_hgvae_s3 $(ABLATION_ROWS))
	$(AGGREGATE)
	$(TABLES_WEAK) --only ablation

.PHONY: reproduce-table3
reproduce-table3: benchmark-weak-supervision ## Time per step of the methods of Table 1, side by side
	$(TABLES_WEAK) --only table_3

.PHONY: clustering-studies
clustering-studies: $(READY) ## What makes the clusters good: pretraining and recipe (SEEDS=100,101)
	$(RUN_CLUSTERING) experiment=$(call list,$(STUDY_ROWS))
	$(AGGREGATE) --keep
	$(TABLES_CLUSTERING) --only studies

# Runs, metrics and pages of its own: they mean nothing.
SMOKE := results/local/smoke

.PHONY: smoke
smoke: $(READY) ## The whole chain in little: rows of every experiment, tables, figures, report; means nothing (2 minutes)
	$(PY) -m experiments.run -m profile=smoke results=$(SMOKE) $(if $(findstring launcher=,$(ARGS)),,$(PARALLEL)) $(ARGS) experiment=$(call list,$(SMOKE_ROWS))
	$(PY) scripts/aggregate.py --profile smoke --results $(SMOKE) --output $(SMOKE)/metrics
	$(PY) scripts/pages.py --metrics $(SMOKE)/metrics --output $(SMOKE)

.PHONY: test
test: $(READY) ## Tests (15-20 minutes)
	$(PY) -m pytest -n 2 --dist worksteal

.PHONY: lint
lint: $(READY) ## Style (seconds)
	$(PY) -m ruff check .

.PHONY: typecheck
typecheck: $(READY) ## Types (seconds)
	$(PY) -m mypy

.PHONY: benchmark
benchmark: $(READY) ## Speed, memory and precision beside the authors' code (OFFICIAL=FOLDER) and BiasedUrn (R)
	$(PY) scripts/benchmark.py $(if $(OFFICIAL),--official $(OFFICIAL))

.PHONY: benchmark-clustering
benchmark-clustering: $(READY) ## Steps per second of the VaDE's training beside a plain loop, and several seeds at once
	$(PY) scripts/benchmark_clustering.py $(ARGS)

.PHONY: benchmark-weak-supervision
benchmark-weak-supervision: $(READY) ## Seconds per step of the VAEs of image pairs beside each other and a plain loop
	$(PY) scripts/benchmark_weak_supervision.py --output $(LOCAL)/benchmark $(ARGS)

.PHONY: gradient-study
gradient-study: $(READY) ## Bias and variance of the straight-through gradient over the temperature
	$(PY) scripts/gradient_study.py $(if $(OFFICIAL),--official $(OFFICIAL))
	$(PY) scripts/figures_gradient_study.py --metrics $(LOCAL)/metrics --output $(LOCAL)

.PHONY: update-results
update-results: $(READY) ## Rewrites the committed results/ from the finished runs of PROFILE (on purpose only)
	$(PY) scripts/aggregate.py --results $(RESULTS) --profile $(PROFILE) --seeds $(SEEDS) --keep --output results/metrics
	$(PY) scripts/pages.py --metrics results/metrics --output results --no-report --readme README.md

.PHONY: report
report: $(READY) ## One HTML page with claims, tables, figures, sources (REPORT=results/local: of your own; a minute)
	$(PY) scripts/report.py --metrics $(REPORT)/metrics --output $(LOCAL)/report.html

.PHONY: wandb-sync
wandb-sync: $(READY) ## Uploads the offline runs that Weights & Biases does not have yet (needs `wandb login`)
	$(PY) scripts/wandb_sync.py --results $(RESULTS) $(ARGS)

.PHONY: wandb-publish
wandb-publish: $(READY) ## Logs the tables and figures of results/ to Weights & Biases as one run, offline (5 s)
	$(PY) scripts/wandb_publish.py $(ARGS)

.PHONY: dashboard
dashboard: $(READY) ## Weights & Biases dashboards as JSON (ARGS='--push --entity NAME' makes them there; 5 s)
	$(PY) scripts/dashboard.py $(ARGS)

.PHONY: doctor
doctor: $(READY) ## What is installed, found and able to run here, and the command for what is missing
	$(PY) scripts/doctor.py $(ARGS)

.PHONY: clean
clean: ## Removes .venv, caches and results/local; runs and committed results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info $(LOCAL)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
