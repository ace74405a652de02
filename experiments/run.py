"""The one entry point: compose, check, seed, run, write.

    python -m experiments.run experiment=kolmogorov_smirnov/weights_merged_straight_through profile=quick seed=0
    python -m experiments.run -m experiment=urn/exact seed=0,1,2

A finished run is skipped, an interrupted one continues from its last checkpoint, ``force=true`` starts over.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException

from experiments.common.configuration import CONFIGS, build_experiment, check_overrides, resolve, run_id
from experiments.common.context import RunContext
from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import code_facts, environment_facts
from experiments.common.store import RunDirectory
from experiments.common.tracking import track, tracked_config
from experiments.disentanglement import trained  # noqa: F401 - makes ${trained_run:ROW} known to configurations

log = logging.getLogger("experiments")


def execute(config: DictConfig, row: str, overrides: Sequence[str] = ()) -> RunDirectory:
    """Runs one row and writes its results.

    Args:
        config: The composed configuration.
        row: Row key, the name of the file under configs/experiment.
        overrides: The command line's overrides, checked and kept beside the result.

    Returns:
        The finished run's folder.

    Raises:
        ExperimentError: something the user can put right; no finished result is touched.
    """
    changing = check_overrides(overrides)
    plain = resolve(config)
    experiment = build_experiment(plain["experiment"])
    results = Path(plain["results"])
    run = RunDirectory(results, row, run_id(plain, row))
    with run.claim():
        if plain["force"]:
            run.discard_checkpoints()
        elif run.finished() is not None:
            log.info("%s seed %d: finished at commit %.10s, skipped (%s)", row, plain["seed"], run.commit(), run.path)
            return run
        resumed = run.last_checkpoint() is not None
        log.info("%s seed %d: %s (%s)", row, plain["seed"], "continues" if resumed else "starts", run.path)
        started, code = time.perf_counter(), code_facts()
        if plain["threads"] is not None:
            torch.set_num_threads(plain["threads"])
        pl.seed_everything(plain["seed"], workers=True, verbose=False)
        with track(
            **plain["logger"],
            row=row,
            run_id=run.path.name,
            seed=plain["seed"],
            job_type=plain["job_type"],
            tags=plain["tags"],
            config=tracked_config(plain, row),
            results=results,
            resumed=resumed,
        ) as tracker:
            tracker.define_metrics(getattr(experiment, "headline_metrics", {}))
            context = RunContext(plain["seed"], run, tracker, plain["trainer"], Path(plain["data_directory"]))
            tables = experiment.run(context)
            if context.interrupted:
                raise KeyboardInterrupt
            if "metrics" not in tables:
                raise ExperimentError(f"{row}: the experiment returned no table called metrics")
            seconds = round(time.perf_counter() - started, 2)
            facts = environment_facts(plain["trainer"]["accelerator"]) | code
            facts |= {"seconds": seconds, "resumed": resumed, "overrides": changing}
            run.finish(tables, facts, OmegaConf.to_yaml(config, resolve=True))
            tracker.log_facts(facts)
            tracker.log_files(f"tables-{run.path.name}", "results", [run.path / f"{name}.csv" for name in tables])
            if run.model.is_file():
                tracker.log_files(f"model-{run.path.name}", "model", [run.model])
            run.discard_checkpoints()  # nothing is left to continue
    log.info("%s seed %d: finished in %.1f s", row, plain["seed"], seconds)
    return run


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def main(config: DictConfig) -> None:
    """Hydra's entry point."""
    context = HydraConfig.get()
    try:
        execute(config, str(context.runtime.choices["experiment"]), context.overrides.task)
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except SIGTERMException:  # Lightning's, a SystemExit that would end with status 0
        log.warning("stopped by SIGTERM; the same command continues from the last checkpoint")
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
