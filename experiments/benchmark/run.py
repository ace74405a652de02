"""The benchmark: every comparison in turn, collected into one list of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmark import sides
from experiments.benchmark.environment import before_a_run
from experiments.benchmark.settings import Settings


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ratio`` is what ``target`` (such as ">= 80") is about; None: not measured."""

    work: str
    ours: float | None
    other_side: str
    other: float | None
    unit: str
    ratio: float | None
    target: str = ""
    dtype: str = "float32"
    note: str = ""

    @property
    def reached(self) -> str:
        """yes, no, "not measured", or empty where nothing was to be reached."""
        if not self.target:
            return ""
        if self.ratio is None:
            return "not measured"
        relation, bound = self.target.split()
        return "yes" if (self.ratio >= float(bound) if relation == ">=" else self.ratio <= float(bound)) else "no"


@dataclass
class Benchmark:
    """Measures; ``rows`` and ``scaling`` fill up, ``log`` gets one line per piece of work."""

    settings: Settings
    official: Path | None
    threads: int
    log: Callable[[str], None] = print
    rows: list[Row] = field(default_factory=list)
    scaling: list[dict[str, Any]] = field(default_factory=list)
    precision: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    """Where and with what the numbers were made, as it stood before the run. ``load_average`` counts the processes
    that wanted a core in the minute before: clearly above zero, the machine was not idle."""

    def run(self) -> None:
        """Measure everything, side by side."""
        self.environment = before_a_run() | {"threads": self.threads}
        self._precision()
        self._sample()
        self._straight_through()
        self._partition()
        self._scaling()

    def _add(self, row: Row) -> None:
        if not self.settings.judged:
            row = replace(row, target="")
        self.rows.append(row)
        ratio = "not measured" if row.ratio is None else f"ratio {row.ratio:.3g}"
        self.log(f"{row.work}: {ratio}{', to reach ' + row.target if row.target else ''} {row.reached}".rstrip())

    def _skip(self, reason: str) -> None:
        self.skipped.append(reason)
        self.log(f"skipped: {reason}")

    def _library(self, work: str, memory: bool = False) -> dict[str, Any]:
        return sides.run_library(work, self.settings, self.threads, memory)

    def _precision(self) -> None:
        self.precision = {
            name: value for name, value in self._library("precision").items() if name in ("float32", "float64")
        }

    def _sample(self) -> None:
        draws = self.settings.draws
        runs: dict[str, Callable[[], dict[str, Any]]] = {"ours": partial(self._library, "sample")}
        try:
            program = sides.check_biased_urn()
            runs["other"] = partial(sides.run_biased_urn, program, self.settings)
        except sides.Skipped as reason:
            self._skip(str(reason))
        self.seconds["sample"] = sides.alternate(runs, self.settings.rounds)
        rate = {side: draws / seconds for side, seconds in sides.medians(self.seconds["sample"]).items()}
        ours, other = rate["ours"], rate.get("other")
        ratio = ours / other if other else None
        title = f"sample, one set of weights, {draws:,} draws"
        self._add(Row(title, ours, "BiasedUrn", other, "samples/s", ratio, ">= 1", note="BiasedUrn: one thread"))

    def _straight_through(self) -> None:
        official, memory = None, None
        try:
            path = sides.check_official(self.official)
            official = partial(sides.run_official, path, self.settings, self.threads)
            per_sample = official(memory=True)["memory_mib"] / self.settings.official_batch
            memory = per_sample * self.settings.batch
        except sides.Skipped as reason:
            self._skip(str(reason))
        batch = self.settings.batch
        note = f"theirs measured at batch {self.settings.official_batch:,}"
        # The authors' code builds the masks in every call, so both variants stand beside the same rate of theirs.
        variants = (
            ("straight-through, one set of weights", ">= 80"),
            ("straight-through masks, one set of weights", ""),
            ("straight-through, weights per element", ">= 30"),
            ("straight-through masks, weights per element", ""),
        )
        runs: dict[str, Callable[[], dict[str, Any]]] = {work: partial(self._library, work) for work, _ in variants}
        if official:
            runs["authors"] = official
        self.seconds["straight-through"] = sides.alternate(runs, self.settings.rounds)
        median = sides.medians(self.seconds["straight-through"])
        other = self.settings.official_batch / median["authors"] if official else None
        for work, target in variants:
            ours = batch / median[work]
            ratio = ours / other if other else None
            title = f"{work}, forward + backward, batch {batch:,}"
            self._add(Row(title, ours, "authors' code", other, "samples/s", ratio, target, note=note))
        for work, _ in variants:
            ours = self._library(work, memory=True)["memory_mib"]
            ratio = ours / memory if memory else None
            title = f"peak memory, {work}, batch {batch:,}"
            target = "" if "masks" in work else "<= 0.05"
            self._add(Row(title, ours, "authors' code", memory, "MiB", ratio, target, note=f"{note} and scaled"))

    def _partition(self) -> None:
        runs = {
            name: partial(self._library, f"partition {name}")
            for name in ("library", "numpy one by one", "numpy all at once")
        }
        values = {name: run()["value"] for name, run in runs.items()}
        difference = abs(values["library"] - values["numpy one by one"]) / max(1.0, abs(values["numpy one by one"]))
        self.seconds["partition"] = sides.alternate(runs, self.settings.rounds)
        median = {name: 1e3 * seconds for name, seconds in sides.medians(self.seconds["partition"]).items()}
        sizes = self.settings.partition_group_sizes
        title = f"log_partition, {len(sizes)} groups of {sizes[0]:,}, n = {self.settings.partition_total_count:,}"
        for side, target in (("numpy one by one", "<= 1.2"), ("numpy all at once", "")):
            ratio = median["library"] / median[side]
            note = f"{side.removeprefix('numpy ')}; relative difference of the values {difference:.1e}"
            self._add(Row(title, median["library"], "NumPy FFT", median[side], "ms", ratio, target, "float64", note))

    def _scaling(self) -> None:
        self.scaling = self._library("scaling")["rows"]
        cells = {(row["work"], row["groups"], row["total_count"]): row["seconds"] for row in self.scaling}
        for work in ("log_prob", "sample"):
            for axis, position in (("groups", 1), ("total_count", 2)):
                steps = []
                for key, seconds in cells.items():
                    doubled = tuple(2 * part if place == position else part for place, part in enumerate(key))
                    if key[0] == work and doubled in cells:
                        steps.append((cells[doubled] / seconds, seconds, cells[doubled], key))
                ratio, before, after, key = max(steps)
                title = f"{work}, {axis} doubled, worst of {len(steps)} steps"
                note = (
                    f"from {key[1]} groups, n = {key[2]:,}; {self.settings.scaling_draws} draws, construction included"
                )
                self._add(Row(title, 1e3 * after, "before doubling", 1e3 * before, "ms", ratio, "<= 2.5", note=note))
