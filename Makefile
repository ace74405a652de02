# `make` lists the targets. Everything below sets itself up: the only needs are python3 (3.10-3.13, with venv), make and
# a package index. The commands are those that you may type yourself: experiments, their axes, settings.
.DEFAULT_GOAL := help

PROFILE ?= quick
SEEDS ?= 0
PYTHON ?= python3
TORCH ?= $(shell grep '^torch==' constraints.txt)
JOBS ?= 2
$(if $(wildcard constraints.txt),,$(error this Makefile works in its own folder: make -C FOLDER TARGET))
$(if $(filter-out mnist digits_5000 mpi3d_sim mpi3d_toy mpi3d_realistic mpi3d_real,$(DATA)),$(error DATA=$(DATA): there is no such data set; `make` lists them))
$(if $(filter-out 1,$(words $(PROFILE)))$(filter-out smoke quick medium paper,$(PROFILE)),$(error PROFILE=$(PROFILE): give smoke, quick, medium or paper))
$(if $(shell printf '%s\n' '$(SEEDS)' | grep -xE '[0-9]+(,[0-9]+)*'),,$(error SEEDS=$(SEEDS): give seeds with commas between them, such as SEEDS=0,1,2))

# An environment of your own (conda, for example): PY=python. Otherwise .venv is made here.
PY ?= .venv/bin/python
READY := $(if $(filter .venv/bin/python,$(PY)),.venv/.ready)

LOCAL = results/local$(if $(filter smoke,$(PROFILE)),/smoke)# smoke runs mean nothing: they stay apart
RESULTS = $(if $(filter smoke,$(PROFILE)),$(LOCAL),$(or $(MVHG_RESULTS_DIR),results))
REPORT ?= $(if $(filter smoke,$(PROFILE)),$(LOCAL),results)
AGGREGATE = $(PY) -m scripts.aggregate --results '$(RESULTS)' --profile $(PROFILE) --seeds $(SEEDS)
MAKE_PAGES = $(AGGREGATE) $(KEEP) --output $(LOCAL)/metrics && $(PY) -m scripts.pages --metrics $(LOCAL)/metrics --output $(LOCAL)
PARALLEL := $(if $(findstring launcher=,$(ARGS))$(findstring runs_at_once=,$(ARGS)),,$(if $(filter-out 1,$(JOBS)),launcher=local hydra.launcher.n_jobs=$(JOBS)))
# A training that stops (status 3) is named on the pages, which are made of the others; in smoke it is what one looks for.
RUN = $(if $(filter smoke,$(PROFILE)),,sh -c '"$$@" || [ $$? = 3 ]' run) $(PY) -m experiments.run -m $(PARALLEL) results='"$(RESULTS)"' profile=$(PROFILE) seed=$(SEEDS) $(ARGS)
KS = $(RUN) experiment=kolmogorov_smirnov series=weights,draws,sizes conditionals=merged,exact
URN = $(RUN) experiment=urn estimator=merged,exact,maximum_likelihood,squared_loss_optimum
DIGITS = $(addprefix experiment.data.source=,$(DATA))
CLUSTERING = $(RUN) $(DIGITS) experiment=clustering version=full,80,60
PAIRS = $(addprefix experiment.data.source=,$(DATA))
WEAK = $(RUN) $(PAIRS) experiment=weak_supervision
ABLATION = $(WEAK) shared=3
TABLE_1 := method=label_vae,ada_vae,hgvae,posterior_hgvae shared=0,1,3,5

.PHONY: $(shell grep -oE '^[a-z0-9-]+:' $(MAKEFILE_LIST) | sort -u | tr -d ':')
help: ## This list
	@echo "make TARGET [PROFILE=smoke|quick|medium|paper] [SEEDS=0,1,2]"
	@echo "  now: PROFILE=$(PROFILE) SEEDS=$(SEEDS); results of your own go to $(LOCAL), runs to $(RESULTS)/runs"
	@echo "  times: 2 CPU cores, the first time plus the minutes of 'install'; a finished run is not run again"
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' 'BEGIN {print ""} {printf "  %-27s %s\n", $$1, $$2} END {print ""}'
	@echo "  PY=python takes the active environment instead of .venv; TORCH=... another build of torch for .venv (GPU);"
	@echo "  ARGS='trainer=gpu logger=disabled' goes to every run; OFFICIAL=FOLDER is a checkout of the authors' code;"
	@echo "  DATA=mnist|digits_5000 for clustering, DATA=mpi3d_sim|mpi3d_toy|mpi3d_realistic|mpi3d_real for weak supervision"
	@echo "  (default: the profile's); JOBS=2 runs at once; MVHG_DATA_DIR=FOLDER is where data files lie."

INSTALL = .venv/bin/python -m pip install --quiet --constraint $@.txt --editable
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet "$(TORCH)"
	grep -v '^torch==' constraints.txt > $@.txt
	$(INSTALL) '.[experiments,renderer,dev]' && touch $@
# On demand: TensorFlow takes as much room as everything else, and Ray needs older versions of three packages.
.venv/.disentanglement .venv/.ray: .venv/.%: .venv/.ready
	grep -vE '^(torch|cloudpickle|joblib|python-dateutil)==' constraints.txt > $@.txt
	$(INSTALL) '.[experiments,$*]' && touch $@
install: $(READY) ## Environment for experiments and tests in .venv, without TensorFlow (1-3 minutes, 2 GB)
install-disentanglement: $(if $(READY),.venv/.disentanglement) ## What Figure 11 needs beside the rest: TensorFlow and disentanglement-lib (2 GB)
install-ray: $(if $(READY),.venv/.ray) ## What launcher=ray needs beside the rest (500 MB)

reproduce: DIGITS = $(addprefix experiment.data.source=,$(filter-out mpi3d_%,$(DATA)))
reproduce: PAIRS = $(addprefix experiment.data.source=,$(filter mpi3d_%,$(DATA)))
reproduce: $(READY) ## Tables 1, 2, Figures 1-4, 7-10, verdicts, report; one seed (20 to 40 minutes; 200 MB)
	$(KS) sampler=straight_through,sample
	$(RUN) experiment=accuracy sampler=straight_through,sample
	$(URN)
	$(CLUSTERING) prior=uniform,categorical,hypergeometric recipe=n2d,vade
	$(CLUSTERING) prior=hypergeometric conditionals=merged
	$(CLUSTERING) prior=hypergeometric reading=assignments
	$(WEAK) $(TABLE_1)
	$(MAKE_PAGES)
reproduce-fig1: ## Kolmogorov-Smirnov test over the weight of group 2 (a minute)
reproduce-fig4: ## The histograms of groups 1 and 3 that belong to Figure 1 (a minute)
reproduce-fig9: ## Kolmogorov-Smirnov test over the number of draws (a minute)
reproduce-fig10: ## Kolmogorov-Smirnov test over the size of group 2 (a minute)
reproduce-fig1 reproduce-fig4 reproduce-fig9 reproduce-fig10: reproduce-fig%: $(READY)
	$(KS) sampler=straight_through
	$(MAKE_PAGES) --only figure_$*
reproduce-fig7: reproduce-fig8 ## Loss of the urn experiment over the steps (made together with Figure 8; 3 minutes)
reproduce-fig8: $(READY) ## Learned log weights of the urn experiment over the steps (3 minutes)
	$(URN)
	$(MAKE_PAGES) --only figure_7 figure_8 urn_recovery
reproduce-table2: $(READY) ## Clustering: three priors on three versions of the digits (SEEDS=0,1,2,3,4: 20 minutes)
	$(CLUSTERING) prior=uniform,categorical,hypergeometric recipe=n2d,vade
	$(MAKE_PAGES) --only table_2 clustering
reproduce-fig3: $(READY) ## Learned cluster weights beside class frequencies, exact and merged (SEEDS=0,1,2,3,4: 20 minutes)
	$(CLUSTERING) prior=hypergeometric conditionals=exact,merged
	$(CLUSTERING) prior=hypergeometric reading=assignments
	$(MAKE_PAGES) --only figure_3 clustering
reproduce-table1: $(READY) ## Weak supervision: accuracy on shared and independent latents (15 minutes a seed)
	$(WEAK) $(TABLE_1),random
	$(MAKE_PAGES) --only table_1 weak_supervision_random
reproduce-fig2: reproduce-table1 ## Weak supervision: error of the number of independent latents, and bounds (25 minutes a seed)
	$(WEAK) method=fixed_k,fixed_k_joint shared=0,1,3,5
	$(MAKE_PAGES) --only figure_2 weak_supervision
reproduce-fig11: install-disentanglement reproduce-table1 ## Disentanglement scores of the models of Table 1 (5 minutes a seed and Table 1's time)
	$(RUN) $(PAIRS) experiment=disentanglement $(TABLE_1)
	$(MAKE_PAGES) --only figure_11
reproduce-fig13: $(READY) ## HGVAE over the final temperature and the learning rate (5 minutes a seed)
	$(ABLATION) method=hgvae experiment.training.final_temperature=0.01,0.1,1
	$(ABLATION) method=hgvae 'experiment.training.learning_rate=$${profile.weak_supervision.lower_learning_rate},$${profile.weak_supervision.higher_learning_rate}'
	$(MAKE_PAGES) --only figure_13 weak_supervision_ablation
weak-supervision-studies: reproduce-fig13 ## What HGVAE and PosteriorHGVAE depend on, every k imposed (an hour a seed)
	$(ABLATION) method=hgvae experiment.model.objective=joint experiment.model.num_latents=10,7
	$(ABLATION) method=hgvae experiment.model.sort_scores=log_divergence
	$(ABLATION) method=hgvae experiment.model.weights_learning_rate_factor=0,0.01
	$(ABLATION) method=posterior_hgvae experiment.model.objective=per_view
	$(ABLATION) method=posterior_hgvae experiment.model.num_latents=7
	$(ABLATION) method=hgvae experiment.model.gradient=score_function
	$(ABLATION) method=hgvae experiment.model.detach_divergences=true
	$(WEAK) method=fixed_k_joint shared=0,1,3,5 experiment.model.num_latents=10 experiment.model.independent=0,1,2,3,4,5,6,7,8,9,10
	$(MAKE_PAGES) --only weak_supervision figure_2
reproduce-table3: benchmark-weak-supervision ## Time per step of the methods of Table 1, side by side
	$(PY) -m scripts.pages --metrics $(LOCAL)/metrics --output $(LOCAL) --only table_3
clustering-studies: KEEP = --keep
clustering-studies: $(READY) ## What keeps the clusters, and where the prior matters: blobs of known sizes (SEEDS=100,101)
	$(RUN) $(DIGITS) experiment=clustering prior=uniform experiment.training.guidance_weight=0,10 experiment.training.final_guidance_weight=0
	$(RUN) $(DIGITS) experiment=clustering prior=uniform experiment.training.final_guidance_weight=0 experiment.training.guidance_weight=0 experiment.training.encoder_learning_rate_factor=0,0.1
	$(RUN) $(DIGITS) experiment=clustering prior=uniform experiment.training.final_guidance_weight=0 experiment.training.guidance_weight=0 experiment.training.kl_weight=5,10
	$(RUN) $(DIGITS) experiment=clustering prior=uniform experiment.training.final_guidance_weight=0 experiment.training.guidance_weight=0 experiment.training.learning_rate=0.001
	$(RUN) experiment=clustering_control overlap=1,2,5 prior=uniform,categorical,hypergeometric
	$(RUN) experiment=clustering_control overlap=1,2,5 prior=hypergeometric reading=assignments
	$(MAKE_PAGES) --only clustering_studies

smoke: override PROFILE = smoke
smoke: $(READY) ## A tiny version of every experiment, with tables, figures and report; means nothing (2 minutes)
	$(KS) sampler=straight_through
	$(URN)
	$(RUN) experiment=clustering version=60 prior=uniform,categorical,hypergeometric
	$(RUN) experiment=clustering_control prior=uniform,hypergeometric
	$(WEAK) shared=3 method=label_vae,ada_vae,hgvae,posterior_hgvae,fixed_k_joint
	$(ABLATION) method=hgvae experiment.training.learning_rate=0.003
	$(MAKE_PAGES)

test: $(READY); $(PY) -m pytest -n 2 --dist worksteal ## Tests (10 to 25 minutes, by how busy two cores are)
lint: $(READY); $(PY) -m ruff check . ## Style (seconds)
typecheck: $(READY); $(PY) -m mypy ## Types (seconds)
docs: $(READY); $(PY) -m mkdocs build ## The documentation as pages, in results/local/site (seconds)
benchmark: $(READY); $(PY) -m scripts.benchmark sampler $(if $(OFFICIAL),--official '$(OFFICIAL)') ## Speed and memory beside the authors' code (OFFICIAL=FOLDER) and BiasedUrn (R)
benchmark-clustering: $(READY); $(PY) -m scripts.benchmark clustering $(ARGS) ## Steps per second of the VaDE's training
benchmark-weak-supervision: $(READY); $(PY) -m scripts.benchmark weak_supervision --output $(LOCAL)/benchmark $(ARGS) ## Seconds per step of the VAEs of image pairs beside each other
gradient-study: $(READY) ## Bias and variance of the straight-through gradient over the temperature
	$(PY) -m scripts.gradient_study $(if $(OFFICIAL),--official '$(OFFICIAL)')
	$(PY) -m scripts.pages --metrics $(LOCAL)/metrics --output $(LOCAL) --only gradient_study
update-results: $(READY) ## Rewrites the committed results/ from the finished runs of PROFILE (on purpose only)
	$(AGGREGATE) --keep --output results/metrics
	$(PY) -m scripts.pages --metrics results/metrics --output results --no-report --readme README.md --claims docs/reproduction.md
gpu: $(READY); $(if $(WHEELS),$(PY) -m pip install -q --no-index --no-deps '$(WHEELS)'/*.whl &&) $(PY) -m scripts.gpu $(if $(filter-out file,$(origin PROFILE)),--profile $(PROFILE)) $(ARGS) ## Values, rates and runs of the paper's size (PROFILE=medium: smaller) on a GPU that is there for ten minutes (WHEELS=FOLDER: packages without a network)
report: $(READY); $(PY) -m scripts.pages --metrics '$(REPORT)/metrics' --report $(LOCAL)/report.html ## One HTML page with claims, tables, figures, sources (REPORT=results/local: of your own; a minute)
wandb-sync: ## Uploads the offline runs that Weights & Biases does not have yet (needs `wandb login`)
wandb-publish: ## Logs the tables and figures of results/ to Weights & Biases as one run, offline (5 s)
dashboard: ## Weights & Biases dashboards as JSON (ARGS='--push --entity NAME' makes them there; 5 s)
doctor: $(READY); $(PY) -m scripts.doctor ## What is installed, found and able to run here, and the command for what is missing
wandb-sync wandb-publish: FROM = --results '$(RESULTS)'
wandb-sync wandb-publish dashboard: $(READY)
	$(PY) -m scripts.weights_and_biases $(patsubst wandb-%,%,$@) $(FROM) $(ARGS)
clean: ## Removes .venv, caches and results/local; runs and committed results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info $(LOCAL)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
