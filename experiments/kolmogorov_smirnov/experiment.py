"""A row of Section 5.1 / Appendix C.1: one sampler on one or more series of urns, against one or two references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from scipy.stats import false_discovery_control

import mvhg
from experiments.common.context import RunContext
from experiments.kolmogorov_smirnov.goodness_of_fit import Integers, TestResult, against_law, against_sample
from experiments.kolmogorov_smirnov.model import CONDITIONALS, SAMPLERS, DrawDataModule, SamplingModel
from experiments.kolmogorov_smirnov.reference import draw_merged, exact_marginals
from experiments.kolmogorov_smirnov.settings import Setting, expand_all

REFERENCES = ("exact", "merged")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
MAX_RANKS = 1024  # processes with a random stream of their own


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


class _SaveFinishedUrns(pl.Callback):
    """Saves a checkpoint whenever an urn has all its draws: an interrupted run continues with the next urn."""

    def __init__(self, path: str, draws: int) -> None:
        self.path, self.draws, self.done = path, draws, 0

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:
        assert isinstance(pl_module, SamplingModel)
        done = sum(pl_module.finished(self.draws))
        if done > self.done:
            trainer.save_checkpoint(self.path)
            self.done = done


class KolmogorovSmirnovExperiment:
    """Draws from every urn and tests each group's counts.

    Args:
        series: Name of a series -> its parameter, values and urn (see ``settings.expand``).
        conditionals: ``exact`` or ``merged``.
        sampler: ``sample`` or ``straight_through``.
        references: ``exact`` (the law itself) and ``merged`` (the paper's SciPy reference), one or both.
        draws: Draws per urn, of the sampler and of the merged reference.
        batch_size: Draws at a time.
        temperature: Of the straight-through sampler.
        dtype: ``float32`` or ``float64``, of the weights.
        significance: Level of the tests after the Benjamini-Hochberg correction over the groups of an urn.
        max_settings: Urns of each series; None for all.
        histograms: Whether the counts are written as a table of their own.

    Raises:
        ValueError: a value is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        series: Mapping[str, Mapping[str, Any]],
        conditionals: str,
        sampler: str,
        references: Sequence[str],
        draws: int,
        batch_size: int,
        temperature: float,
        dtype: str,
        significance: float,
        max_settings: int | None,
        histograms: bool,
    ) -> None:
        if max_settings is not None:
            _at_least_one("max_settings", max_settings)
        self.settings = expand_all(series, max_settings)
        for setting in self.settings:  # raises for an urn that cannot be, before any work
            mvhg.MultivariateHypergeometric(setting.total_count, setting.group_sizes, weights=setting.weights)
        self.conditionals = _one_of("conditionals", conditionals, CONDITIONALS)
        self.sampler = _one_of("sampler", sampler, SAMPLERS)
        self.references = [_one_of("references", name, REFERENCES) for name in references]
        self.draws = _at_least_one("draws", draws)
        self.batch_size = _at_least_one("batch_size", batch_size)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature!r}")
        self.temperature = temperature
        self.dtype = DTYPES[_one_of("dtype", dtype, tuple(DTYPES))]
        if not 0 < significance < 1:
            raise ValueError(f"significance must be between 0 and 1, got {significance!r}")
        self.significance = significance
        self.histograms = histograms
        groups = range(1, len(self.settings[0].weights) + 1)
        self.headline_metrics: dict[str, str] = {}  # the worst urn of each series, reference and group
        for prefix in (_prefix(name, other, group) for name in series for other in references for group in groups):
            self.headline_metrics |= {f"{prefix}/ks_distance": "max", f"{prefix}/ks_p_corrected": "min"}

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics`` (one line per urn, reference and group) and, where asked for, ``histograms``."""
        counts = self._draw(context)
        metrics: list[dict[str, Any]] = []
        histograms: list[pd.DataFrame] = []
        loggers = context.trainer().loggers
        for index, setting in enumerate(self.settings):
            lines, drawn = self._test(context, index, setting, counts[index])
            metrics += lines
            histograms += drawn
            for logger in loggers:
                logger.log_metrics(_logged(lines), step=index)
        table = pd.DataFrame(metrics)
        context.log_summary(_summary(table, self.significance))
        tables = {"metrics": table}
        if self.histograms:
            tables["histograms"] = pd.concat(histograms, ignore_index=True)
        return tables

    def _draw(self, context: RunContext) -> Integers:
        """Draws whatever is missing and returns the histograms [urns, groups, counts]."""
        model = SamplingModel(
            self.settings,
            self.conditionals,
            self.sampler,
            self.temperature,
            self.dtype,
            lambda urn, rank, device: context.generator(urn * MAX_RANKS + rank, device),
        )
        checkpoint = context.checkpoint_path
        if checkpoint is not None:
            model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
        missing = [urn for urn, done in enumerate(model.finished(self.draws)) if not done]
        if missing:
            saver = _SaveFinishedUrns(str(context.directory / "last.ckpt"), self.draws)
            saver.done = len(self.settings) - len(missing)
            trainer = context.trainer(callbacks=[saver])
            trainer.test(model, DrawDataModule(missing, self.draws, self.batch_size), verbose=False)
        return model.histogram.counts.cpu().numpy()

    def _test(
        self, context: RunContext, index: int, setting: Setting, counts: Integers
    ) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
        """Tests one urn; counts is [groups, values]."""
        groups, values = counts.shape
        laws = np.zeros((groups, values))
        for group, law in enumerate(exact_marginals(setting.total_count, setting.group_sizes, setting.weights)):
            laws[group, : len(law)] = law
        results: dict[str, list[TestResult]] = {}
        drawn = np.zeros_like(counts)
        if "exact" in self.references:
            results["exact"] = [against_law(own, law, self.significance) for own, law in zip(counts, laws, strict=True)]
        if "merged" in self.references:
            numbers = np.random.default_rng((context.seed, index))
            sample = draw_merged(setting.total_count, setting.group_sizes, setting.weights, self.draws, numbers)
            drawn = np.stack([np.bincount(column, minlength=values) for column in sample.T])
            results["merged"] = [
                against_sample(own, other, self.significance) for own, other in zip(counts, drawn, strict=True)
            ]
        common = setting.describe() | {
            "conditionals": self.conditionals,
            "sampler": self.sampler,
            "draws": self.draws,
        }
        lines = []
        for reference, tests in results.items():
            corrected = false_discovery_control([test.ks_p_value for test in tests])
            for group, test in enumerate(tests):
                line = common | {"reference": reference, "group": group + 1} | test.as_columns()
                line["ks_p_corrected"] = float(corrected[group])
                line["rejected"] = bool(corrected[group] <= self.significance)
                lines.append(line)
        return lines, [_histogram(setting, group, counts[group], drawn[group], laws[group]) for group in range(groups)]


def _histogram(
    setting: Setting, group: int, counts: Integers, reference: Integers, law: np.ndarray[Any, Any]
) -> pd.DataFrame:
    """The values that occur, with their counts and exact probability (six digits: it serves the figures)."""
    occurs = (counts > 0) | (reference > 0)
    return pd.DataFrame(
        {
            "series": setting.series,
            "value": setting.value,
            "group": group + 1,
            "count": np.flatnonzero(occurs),
            "drawn": counts[occurs],
            "merged_reference": reference[occurs],
            "exact_probability": [float(f"{probability:.6g}") for probability in law[occurs]],
        }
    )


def _prefix(series: str, reference: str, group: int) -> str:
    return f"{series}/{reference}/group_{group}"


def _logged(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """W&B history: distance and corrected p-value by series, reference and group."""
    values = {}
    for line in lines:
        prefix = _prefix(line["series"], line["reference"], line["group"])
        values[f"{prefix}/ks_distance"] = float(line["ks_distance"])
        values[f"{prefix}/ks_p_corrected"] = float(line["ks_p_corrected"])
    return values


def _summary(table: pd.DataFrame, significance: float) -> dict[str, float]:
    """Headline numbers per reference: rejections of how many tests, largest distance, smallest p-values."""
    values: dict[str, float] = {}
    for reference, part in table.groupby("reference"):
        values[f"{reference}/tests"] = len(part)
        values[f"{reference}/rejections_at_{significance:g}"] = int(part["rejected"].sum())
        values[f"{reference}/largest_ks_distance"] = float(part["ks_distance"].max())
        smallest = float(part["chi_square_p_value"].min())
        values[f"{reference}/smallest_chi_square_p_value"] = smallest if math.isfinite(smallest) else 1.0
    return values
