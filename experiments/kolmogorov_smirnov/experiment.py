"""Section 5.1 / Appendix C.1: one sampler on one or more series of urns, against one or two references."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pydantic import Field
from scipy.stats import false_discovery_control
from torch import Tensor

from experiments.context import TRAINING_ALONE, RunContext
from experiments.kolmogorov_smirnov.goodness_of_fit import Integers, against_law, against_sample
from experiments.kolmogorov_smirnov.reference import draw_merged, exact_marginals
from experiments.kolmogorov_smirnov.series import Series, Urn, histogram, sampler
from experiments.settings import PositiveInt, settings
from experiments.training import require_same_device


@settings
class KolmogorovSmirnov:
    """Draws from every urn and tests each group's counts.

    Attributes:
        series: The series by name.
        conditionals: Of the sampler.
        sampler: The distribution's own (``sample``) or the differentiable one's hard counts.
        references: What the draws are held against: the law itself or the paper's SciPy reference.
        draws: Draws per urn, of the sampler and of the merged reference.
        batch_size: Draws at a time.
        significance: Level of the tests after the Benjamini-Hochberg correction over the groups of an urn.
        max_settings: Urns of each series; None for all.
    """

    series: Annotated[dict[str, Series], Field(min_length=1)]
    conditionals: Literal["exact", "merged"]
    sampler: Literal["sample", "straight_through"]
    references: Annotated[list[Literal["exact", "merged"]], Field(min_length=1)]
    draws: Annotated[int, Field(ge=2)]
    batch_size: PositiveInt
    significance: Annotated[float, Field(gt=0, lt=1)]
    max_settings: PositiveInt | None

    def __post_init__(self) -> None:
        if len(set(self.references)) < len(self.references):
            raise ValueError(f"references must be distinct, got {self.references}")

    @property
    def idle_settings(self) -> frozenset[str]:
        """Those of trainings, the number of draws where it varies, and a limit that is none: null is for all."""
        idle = {f"series.{name}.total_count" for name, one in self.series.items() if one.parameter == "total_count"}
        if self.max_settings is not None and self.max_settings >= max(len(one.values) for one in self.series.values()):
            idle.add("max_settings")
        return TRAINING_ALONE | idle

    @property
    def urns(self) -> list[Urn]:
        """Those of all series."""
        return [urn for name, series in self.series.items() for urn in series.urns(name)[: self.max_settings]]

    @property
    def headline_metrics(self) -> dict[str, str]:
        """The worst urn of each series, reference and group."""
        groups = range(1, len(self.urns[0].weights) + 1)
        places = product(self.series, self.references, groups)
        worst = {"ks_distance": "max", "ks_p_corrected": "min"}
        return {_name(*place, quantity): kept for place in places for quantity, kept in worst.items()}

    @staticmethod
    def keep_lines(table_name: str, row: Any, frame: pd.DataFrame) -> pd.DataFrame | None:
        """Of histograms, only those of the differentiable sampler over a single series are shown."""
        shown = "series" in row.axes and row.axes["sampler"] == "straight_through"
        return frame if table_name != "histograms" or shown else None

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics`` (one line per urn, reference and group) and ``histograms``."""
        metrics: list[pd.DataFrame] = []
        histograms: list[pd.DataFrame] = []
        trainer = context.trainer()  # of which only device and loggers are used
        for index, (urn, counts) in enumerate(self._draw(context, trainer)):
            lines, drawn = self._test(urn, counts, np.random.default_rng((context.seed, self._stream(urn))))
            for logger in trainer.loggers:
                logger.log_metrics(_logged(lines), step=index)
            metrics.append(lines)
            histograms.append(drawn)
        tables = {"metrics": pd.concat(metrics, ignore_index=True), "histograms": pd.concat(histograms)}
        context.log_summary(_summary(tables["metrics"], self.significance))
        if len(self.series) == 1:  # an axis of the run
            tables = {name: table.drop(columns="series") for name, table in tables.items()}
        return tables

    def _draw(self, context: RunContext, trainer: pl.Trainer) -> Iterator[tuple[Urn, Integers]]:
        """Yields every urn with its histogram [groups, values]; after each a checkpoint holds those so far."""
        done: list[Tensor] = []
        device = trainer.strategy.root_device
        state = context.load_checkpoint("device", "histograms")
        if state is not None:
            require_same_device(state["device"], trainer)
            done = state["histograms"]
        for index, urn in enumerate(self.urns):
            if index == len(done):
                generator = context.generator(self._stream(urn), device)
                draw = sampler(urn, self.conditionals, self.sampler, generator)
                done.append(histogram(urn, draw, self.draws, self.batch_size))
                context.save_checkpoint({"histograms": done, "device": device.type})
            yield urn, done[index].numpy()

    def _stream(self, urn: Urn) -> int:
        """Returns the number of an urn's random stream, of its own in every run: what is pooled must be independent."""
        value = int(urn.value) if float(urn.value).is_integer() else urn.value  # 1 and 1.0 make one run
        place = urn.series, value, self.conditionals, self.sampler, self.draws
        return zlib.crc32(repr(place).encode())

    def _test(self, urn: Urn, counts: Integers, numbers: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Tests one urn and returns its lines and histograms; counts is [groups, values]."""
        values = counts.shape[1]
        marginals = exact_marginals(urn.total_count, urn.group_sizes, urn.weights)
        laws = np.stack([np.pad(law, (0, values - len(law))) for law in marginals])
        drawn = np.zeros_like(counts)
        tests = {}
        if "exact" in self.references:
            tests["exact"] = [against_law(own, law, self.significance) for own, law in zip(counts, laws)]
        if "merged" in self.references:
            sample = draw_merged(urn.total_count, urn.group_sizes, urn.weights, self.draws, numbers)
            drawn = np.stack([np.bincount(column, minlength=values) for column in sample.T])
            tests["merged"] = [against_sample(own, other, self.significance) for own, other in zip(counts, drawn)]
        lines = []
        for reference, results in tests.items():
            corrected = false_discovery_control([test["ks_p_value"] for test in results])
            for group, (test, p_value) in enumerate(zip(results, corrected), start=1):
                line = {**urn.columns(), "draws": self.draws, "reference": reference, "group": group, **test}
                lines.append(line | {"ks_p_corrected": p_value, "rejected": p_value <= self.significance})
        groups, found = np.nonzero((counts > 0) | (drawn > 0))  # what occurs
        histograms = {
            "series": urn.series,
            "value": urn.value,
            "group": groups + 1,
            "count": found,
            "drawn": counts[groups, found],
            "merged_reference": drawn[groups, found],
            # Six digits: it serves the figures.
            "exact_probability": [float(f"{probability:.6g}") for probability in laws[groups, found]],
        }
        return pd.DataFrame(lines), pd.DataFrame(histograms)


def _name(series: str, reference: str, group: int, quantity: str) -> str:
    return f"{series}/{reference}/group_{group}/{quantity}"


def _logged(lines: pd.DataFrame) -> dict[str, float]:
    """W&B history: distance and corrected p-value by series, reference and group."""
    return {
        _name(line.series, line.reference, line.group, quantity): float(getattr(line, quantity))
        for line in lines.itertuples()
        for quantity in ("ks_distance", "ks_p_corrected")
    }


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
