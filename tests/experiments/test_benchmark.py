"""The benchmark at tiny sizes: what it computes, what it writes, what it says when one side is missing."""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_hypergeom

from experiments.benchmark import library_worker, measure, plain_numpy, report, sides
from experiments.benchmark.run import Benchmark, Row
from experiments.benchmark.settings import Settings
from experiments.common.errors import ExperimentError

# A sampler with the authors' call signature: the "counts" are softmax shares, which is all that timing needs.
STAND_IN = """
import torch

class MVHG:
    def __init__(self, device):
        self.device = device

    def __call__(self, group_sizes, total_count, log_weights, temperature, add_noise, hard):
        shares = (log_weights / temperature).softmax(-1) * total_count
        return None, [shares[:, i].reshape(-1, 1, 1) for i in range(len(group_sizes))], None, None
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder laid out like the authors' checkout."""
    package = tmp_path / "checkout" / "mvhg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "pt_fmvhg.py").write_text(STAND_IN)
    return package.parent


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our side's jobs run in this process: importing torch twenty times would take most of a minute."""

    def run_library(work: str, settings: Settings, threads: int, memory: bool = False) -> dict[str, Any]:
        return library_worker.main({"work": work, "settings": settings.as_dict(), "memory": memory})

    monkeypatch.setattr(sides, "run_library", run_library)


def test_memory_growth_sees_an_allocation() -> None:
    assert measure.memory_growth_mib(lambda: bytearray(64 * 2**20).count(1)) == pytest.approx(64, abs=8)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back when asked")
def test_memory_growth_sees_an_allocation_in_memory_freed_before() -> None:
    small = [bytearray(100_000) for _ in range(2_000)]  # too small for mappings of their own
    above = bytearray(100_000)  # keeps the allocator from shrinking its heap
    del small
    assert measure.memory_growth_mib(lambda: bytearray(64 * 2**20).count(1)) == pytest.approx(64, abs=8)
    assert len(above) == 100_000


def test_time_calls_times_every_repeat() -> None:
    calls: list[int] = []
    assert len(measure.time_calls(lambda: calls.append(1), 3)) == len(calls) == 3
    assert measure.time_briefly(lambda: None, 3, shortest=1e-4) < 1e-4


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("total_count", [1, 5, 11])
def test_plain_numpy_log_partition(total_count: int, one_by_one: bool) -> None:
    sizes, weights = [3, 5, 4], [1, 2, 3]
    expected = sum(
        math.comb(3, a) * math.comb(5, b) * 2**b * math.comb(4, total_count - a - b) * 3 ** (total_count - a - b)
        for a in range(4)
        for b in range(6)
        if 0 <= total_count - a - b <= 4
    )
    value = plain_numpy.log_partition(total_count, sizes, np.log(weights).tolist(), one_by_one)
    assert value == pytest.approx(math.log(expected), abs=1e-11)


def test_conditional_laws_of_equal_weights() -> None:
    first, second = plain_numpy.conditional_laws(5, [3, 5, 4], [2.0, 2.0, 2.0])
    for a in range(4):
        for b in range(6):
            c = 5 - a - b
            expected = multivariate_hypergeom.pmf([a, b, c], [3, 5, 4], 5) if 0 <= c <= 4 else 0.0
            assert first[a] * second[a, b] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "target", "reached"),
    [
        (2.0, ">= 2", "yes"),
        (1.9, ">= 2", "no"),
        (0.04, "<= 0.05", "yes"),
        (None, ">= 1", "not measured"),
        (1.0, "", ""),
    ],
)
def test_row_says_whether_the_target_is_reached(ratio: float | None, target: str, reached: str) -> None:
    assert Row("work", 1.0, "other", None, "s", ratio, target).reached == reached


def test_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str, seconds: float) -> dict[str, Any]:
        order.append(name)
        return {"seconds": [seconds]}

    seconds = sides.alternate({"a": lambda: side("a", 1.0), "b": lambda: side("b", 3.0)}, rounds=2)
    assert order == ["a", "b", "a", "b"]
    assert sides.medians(seconds) == {"a": 1.0, "b": 3.0}


def test_missing_sides_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(sides.Skipped, match="--official PATH"):
        sides.check_official(None)
    with pytest.raises(sides.Skipped, match=r"mvhg/pt_fmvhg\.py"):
        sides.check_official(tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(sides.Skipped, match="Rscript is not installed"):
        sides.check_biased_urn()


def test_library_worker_as_a_process() -> None:
    settings = Settings.quick()
    result = sides.run_library("straight-through, weights per element", settings, threads=1, memory=True)
    assert len(result["seconds"]) == settings.repeats
    assert result["threads"] == 1
    assert result["memory_mib"] >= 0


def test_failing_worker_is_one_line(stand_in: Path) -> None:
    (stand_in / "mvhg" / "pt_fmvhg.py").write_text("raise OSError('no such thing')\n")
    with pytest.raises(ExperimentError, match="no such thing") as error:
        sides.run_official(stand_in, Settings.quick(), threads=1)
    assert "\n" not in str(error.value)


def test_precision_is_at_the_level_of_the_dtype(in_process: None) -> None:
    result = sides.run_library("precision", Settings.quick(), threads=1)
    assert result["float64"]["conditionals"] < 1e-11
    assert result["float32"]["conditionals"] < 1e-4
    for values in (result["float32"], result["float64"]):
        assert values["sample"] < 2 * values["sample_expected"]


def test_whole_benchmark(stand_in: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_biased_urn() -> str:
        raise sides.Skipped("BiasedUrn: Rscript is not installed")

    monkeypatch.setattr(sides, "check_biased_urn", no_biased_urn)
    lines: list[str] = []
    benchmark = Benchmark(Settings.quick(), stand_in, threads=1, log=lines.append)
    benchmark.run()
    paths = report.write(benchmark, tmp_path / "out")
    assert {path.name for path in paths} == {"benchmark.json", "benchmark.csv", "scaling.csv", "benchmark.md"}
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(paths)

    table = pd.read_csv(tmp_path / "out" / "benchmark.csv")
    assert len(table) == len(benchmark.rows) == 15
    assert table["ours"].gt(0).sum() >= 11  # peak memory may not grow at this size
    assert table[["target", "reached"]].isna().all(axis=None)  # tiny sizes are not judged
    assert "skipped: BiasedUrn: Rscript is not installed" in lines
    everything = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert everything["rows"][0]["ratio"] is None
    assert everything["environment"]["threads"] == 1
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "Tiny sizes" in text
    assert all(row.work in text for row in benchmark.rows)
    assert "nan" not in text.lower().replace("scenario", "")
