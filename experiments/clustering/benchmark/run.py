"""The benchmark of the training: every side in turns, round by round, in one process."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmark.environment import before_a_run
from experiments.benchmark.sides import Skipped
from experiments.benchmark.turns import Comparison, check_accelerator, ratios, take_turns
from experiments.clustering.benchmark.configured import Configured
from experiments.clustering.benchmark.profile import PRIOR_ALONE, prior_alone, profile
from experiments.clustering.benchmark.settings import PRIORS, Settings
from experiments.clustering.benchmark.sides import PlainSide, ProjectSide, StackedSide, compiled_side
from experiments.common.errors import ExperimentError
from experiments.common.tracking import Tracker, track

PROJECT, PLAIN, COMPILED, HALF = "project", "plain loop", "project, compiled", "project, bfloat16"


def stacked_name(seeds: int) -> str:
    return f"{seeds} seed{'s' if seeds > 1 else ''} at once"


@dataclass(frozen=True, kw_only=True)
class PriorComparison(Comparison):
    """A side beside another, with one prior."""

    prior: str


@dataclass
class Benchmark:
    """Measures the training with one prior after another.

    Attributes:
        settings: one per prior.
        log: gets a line per result.
        rows: the comparisons.
        rates: prior -> side -> steps per second of every round, summed over the seeds.
        parts: prior -> part -> milliseconds of a step.
        ends: prior -> seconds of the end of an epoch, round by round.
        compile_seconds: prior -> of the first compiled step.
        skipped: what could not be measured, and why.
        environment: where and with what the numbers were made, as it stood before the run; ``load_average`` clearly
            above zero says that the machine was not idle.
    """

    settings: list[Settings]
    log: Callable[[str], None] = print
    rows: list[PriorComparison] = field(default_factory=list)
    rates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    ends: dict[str, list[float]] = field(default_factory=dict)
    compile_seconds: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Measures everything.

        Raises:
            ExperimentError: a setting is not allowed, or the accelerator is not there.
        """
        for settings in self.settings:
            check(settings)
        self.environment = before_a_run(self.settings[0].accelerator)
        for settings in self.settings:
            with (
                tempfile.TemporaryDirectory() as folder,
                track(
                    mode=settings.logger,
                    project="mvhg",
                    row=f"clustering/{settings.prior}_full",
                    run_id="benchmark",
                    seed=0,
                    job_type="train",
                    tags=["benchmark"],
                    config={},
                    results=Path(folder),
                ) as tracker,
            ):
                self._prior(settings, Path(folder), tracker)

    def _prior(self, settings: Settings, folder: Path, tracker: Tracker) -> None:
        configured, prior = Configured.read(settings), settings.prior
        project = ProjectSide(configured, folder, tracker)
        rounds: dict[str, Callable[[], float]] = {PROJECT: project.round, PLAIN: PlainSide(settings).round}
        for seeds in settings.seeds:
            rounds[stacked_name(seeds)] = StackedSide(configured, seeds).round
        rounds[HALF] = ProjectSide(configured, folder, tracker, precision="bf16-mixed").round
        if settings.compile:
            try:
                compiled, self.compile_seconds[prior] = compiled_side(configured, folder, tracker)
                rounds[COMPILED] = compiled.round
            except Skipped as reason:
                self.skipped.append(str(reason))
                self.log(f"skipped: {reason}")
        rates = take_turns(rounds, settings.rounds)
        self.rates[prior], self.ends[prior] = rates, project.end_seconds
        self._compare(settings, PROJECT, PLAIN, ">= 0.95" if settings.judged else "")
        for name in rounds:
            if name not in (PROJECT, PLAIN):
                self._compare(settings, name, PROJECT, "")
        self.parts[prior] = profile(ProjectSide(configured, folder, tracker))
        self.parts[prior][PRIOR_ALONE] = prior_alone(project, settings.steps)

    def _compare(self, settings: Settings, name: str, other: str, target: str) -> None:
        rates = self.rates[settings.prior]
        notes = {
            HALF: "wide layers in half precision",
            COMPILED: f"first step {self.compile_seconds.get(settings.prior, 0):.0f} s",
        }
        row = PriorComparison(
            work=name,
            ours=statistics.median(rates[name]),
            other_side=other,
            other=statistics.median(rates[other]),
            unit="steps/s x seeds" if name.endswith("at once") else "steps/s",
            target=target,
            dtype="bfloat16" if name == HALF else "float32",
            note=notes.get(name, ""),
            prior=settings.prior,
            **ratios(rates[name], rates[other]),
        )
        self.rows.append(row)
        reached = f", to reach {target}: {row.reached}" if target else ""
        self.log(
            f"{settings.prior}, {name} beside {other}: {row.ours:.1f} / {row.other:.1f} steps/s, "
            f"ratio {row.ratio:.3f} ({row.lowest_ratio:.3f} to {row.highest_ratio:.3f}){reached}"
        )


def check(settings: Settings) -> None:
    """Refuses what can't be measured.

    Raises:
        ExperimentError: naming the setting.
    """
    if settings.prior not in PRIORS:
        raise ExperimentError(f"--prior must be one of {', '.join(PRIORS)}, got {settings.prior!r}")
    for name in ("rounds", "steps", "warm_up"):
        if getattr(settings, name) < 1:
            raise ExperimentError(f"--{name} must be at least 1, got {getattr(settings, name)}")
    check_accelerator(settings.accelerator)
