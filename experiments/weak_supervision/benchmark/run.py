"""The benchmark of the training: every side in turns, round by round, in one process."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmark.environment import before_a_run
from experiments.benchmark.sides import Skipped
from experiments.benchmark.turns import Comparison, first_compiled_step, ratios, take_turns
from experiments.common.tracking import Tracker, track
from experiments.weak_supervision.benchmark.configured import Configured
from experiments.weak_supervision.benchmark.memory import GROWTH, PEAK, measure_apart
from experiments.weak_supervision.benchmark.profile import DATA, data_share, profile
from experiments.weak_supervision.benchmark.settings import Settings
from experiments.weak_supervision.benchmark.sides import (
    ADA,
    COMPILED,
    HALF,
    HG,
    LABEL,
    METHODS,
    PLAIN,
    SIDES,
    ProjectSide,
    Side,
    make_side,
)
from experiments.weak_supervision.data import PairSplits

DATA_SIDE = "pairs_to_device"  # the row of what pair sampling and loading take of a step
TARGETS = {ADA: "<= 1.05", HG: "<= 1.05", PLAIN: ">= 1.3", DATA_SIDE: "<= 0.05"}


@dataclass(frozen=True, kw_only=True)
class SizeComparison(Comparison):
    """Seconds per step of a side beside another's, at one size."""

    size: int
    batch: int
    peak_memory_mib: float | None = None
    training_memory_mib: float | None = None


@dataclass
class Benchmark:
    """Measures the training at one size after another.

    Attributes:
        settings: one per size.
        log: gets a line per result.
        rows: the comparisons.
        seconds: size -> side -> seconds per step of every round.
        parts: size -> method -> part -> milliseconds of a step.
        compile_seconds: size -> of the first compiled step.
        share_above_one: of the steps of HGVAE's paper profile, those at a temperature above 1.
        skipped: what could not be measured, and why.
        environment: where and with what the numbers were made, see ``before_a_run``.
    """

    settings: list[Settings]
    log: Callable[[str], None] = print
    rows: list[SizeComparison] = field(default_factory=list)
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    parts: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    compile_seconds: dict[str, float] = field(default_factory=dict)
    share_above_one: float = 0.0
    skipped: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Measures everything.

        Raises:
            ExperimentError: the images can't be read, or a process that measures memory failed.
        """
        self.environment = before_a_run(self.settings[0].accelerator)
        self.share_above_one = Configured.read(self.settings[0], HG).share_above_one()
        for settings in self.settings:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                tracker = stack.enter_context(
                    track(
                        mode=settings.logger,
                        project="mvhg",
                        row="weak_supervision",
                        run_id="benchmark",
                        seed=0,
                        job_type="train",
                        tags=["benchmark"],
                        config={},
                        results=folder,
                    )
                )
                self._size(settings, folder, tracker)

    def _size(self, settings: Settings, folder: Path, tracker: Tracker) -> None:
        size = settings.size
        splits = Configured.read(settings, LABEL).data.load(Path("data"))
        sides = self._build(settings, splits, folder, tracker)
        self.seconds[size] = take_turns({name: side.round for name, side in sides.items()}, settings.rounds)
        self.parts[size] = {}
        for method in METHODS:
            self.parts[size][method] = profile(ProjectSide(settings, splits, folder, tracker, method=method))
        del splits  # the processes that measure memory have images of their own
        memory = {name: measure_apart(name, settings) for name in sides if settings.memory and name != COMPILED}
        for name in sides:
            self._compare(settings, name, memory.get(name, {}))
        self._judge_data(settings)

    def _build(self, settings: Settings, splits: PairSplits, folder: Path, tracker: Tracker) -> dict[str, Side]:
        sides: dict[str, Side] = {}
        for name in SIDES:
            if name == COMPILED and not settings.compile:
                continue
            try:
                sides[name] = make_side(name, settings, splits, folder, tracker)
                if name == COMPILED:
                    side = sides.pop(name)
                    assert isinstance(side, ProjectSide)
                    self.compile_seconds[settings.size] = first_compiled_step(side.fit)
                    sides[name] = side
            except Skipped as reason:
                self.skipped.append(str(reason))
                self.log(f"skipped: {reason}")
        return sides

    def _compare(self, settings: Settings, name: str, memory: dict[str, float]) -> None:
        seconds = self.seconds[settings.size]
        notes = {
            HALF: "networks in half precision",
            COMPILED: f"first step {self.compile_seconds.get(settings.size, 0):.0f} s",
        }
        self._add(
            settings,
            SizeComparison(
                work=name,
                ours=statistics.median(seconds[name]),
                other_side=LABEL,
                other=statistics.median(seconds[LABEL]),
                unit="s/step",
                target=TARGETS.get(name, "") if settings.judged else "",
                dtype="bfloat16" if name == HALF else "float32",
                note=notes.get(name, ""),
                size=settings.image_size,
                batch=settings.batch_size,
                peak_memory_mib=memory.get(PEAK),
                training_memory_mib=memory.get(GROWTH),
                **ratios(seconds[name], seconds[LABEL]),
            ),
        )

    def _judge_data(self, settings: Settings) -> None:
        parts = self.parts[settings.size][LABEL]
        self._add(
            settings,
            SizeComparison(
                work=DATA_SIDE,
                ours=sum(parts[name] for name in DATA) / 1e3,
                other_side=LABEL,
                other=sum(parts.values()) / 1e3,
                unit="s/step",
                ratio=data_share(parts),
                target=TARGETS[DATA_SIDE] if settings.judged else "",
                note="share of a step, by its profile",
                size=settings.image_size,
                batch=settings.batch_size,
            ),
        )

    def _add(self, settings: Settings, row: SizeComparison) -> None:
        self.rows.append(row)
        reached = f", to reach {row.target}: {row.reached}" if row.target else ""
        lowest, highest = row.lowest_ratio, row.highest_ratio
        spread = "" if lowest is None else f" ({lowest:.3f} to {highest:.3f})"
        self.log(
            f"{settings.size}, {row.work} beside {row.other_side}: {row.ours:.4f} / {row.other:.4f} s/step, "
            f"ratio {row.ratio:.3f}{spread}{reached}"
        )
