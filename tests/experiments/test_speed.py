"""The benchmarks, at tiny sizes: every side runs, the page names the worst cell, targets can be missed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from experiments.speed import report
from experiments.speed.calls import Urn
from experiments.speed.measure import comparison, in_turns, memory_growth_mib
from experiments.speed.sampler import Sizes, authors, cells, measure_grid, ours
from experiments.speed.steps import METHODS, PRIORS
from experiments.speed.tables import committed_table
from scripts import benchmark

GRID = pd.DataFrame(
    {
        "urn": ["m = 10 x 2, n = 10"] * 4,
        "groups": 2,
        "batch": [1, 1, 64, 64],
        "temperature": [0.5, 2.0, 0.5, 2.0],
        "ours_ms": [1.0, 1.5, 2.0, 5.0],
        "authors_ms": [4.0, 4.0, 9.0, 4.0],
        "ours_mib": [0.0, 0.0, 1.0, 9.0],
        "authors_mib": [1.0, 1.0, 5.0, 5.0],
        "ratio": [4.0, 2.7, 4.5, 0.8],
    }
)


def test_the_page_names_the_worst_cell_first_and_what_a_higher_temperature_costs() -> None:
    text = report.grid_in_words(GRID)
    assert text.startswith("**Slowest cell: 0.80 times as fast as the authors' code** (m = 10 x 2, n = 10, batch 64, ")
    assert "1 of 4 cells below 2" in text and "More memory than theirs (by over 0.5 MiB) in 1 cells" in text
    assert text.strip().endswith("Temperature 2 takes at most 2.50 times the time of temperature 0.5.")
    slowest, middle = report.grid_lines(GRID)
    assert (slowest["ratio"], slowest["reached"]) == (0.8, "no")
    assert middle["ratio"] == pytest.approx((2.7 + 4.0) / 2)


@pytest.mark.parametrize(
    ("ratio", "target", "reached"), [(2.0, ">= 2", "yes"), (1.9, ">= 2", "no"), (1.1, "<= 1", "no")]
)
def test_a_target_can_be_missed(ratio: float, target: str, reached: str) -> None:
    assert comparison("work", 1.0, "ms", "other", 1.0, ratio, target)["reached"] == reached


def test_memory_is_what_a_call_adds_and_turns_alternate() -> None:
    assert memory_growth_mib(lambda: torch.ones(16 << 20)) == pytest.approx(64, abs=8)
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = in_turns(sides, rounds=2)
    assert [len(values) for values in seconds.values()] == [2, 2]
    assert [name for name, _ in itertools.groupby(order)] == ["a", "b", "a", "b", "a"]  # once before, there and back


def test_the_grid_leaves_out_what_takes_gigabytes_on_the_authors_side() -> None:
    made = list(cells(Sizes()))
    assert (Urn((128,) * 10, 128, (512,)), 0.5) in made and len({urn.name for urn, _ in made}) == 5
    assert not [cell for cell in cells(Sizes(urns=(((1000, 1000), 5),), batches=(64,)))]
    one = Sizes(urns=(((3, 5, 4), 5),), batches=(1,), temperatures=(2.0,), rounds=1)
    (line,) = measure_grid(one, None)
    assert line["urn"] == "m = 3, 5, 4, n = 5" and "ratio" not in line


@pytest.mark.parametrize("masks", [True, False])
def test_both_sides_draw_from_the_same_laws_and_go_backward(masks: bool) -> None:
    urn, seen = Urn((3, 5, 4), 5, (7,)), []

    def sampler(sizes: torch.Tensor, total: torch.Tensor, log_weights: torch.Tensor, temperature: float) -> Any:
        """Has the shapes of theirs: counts and masks are a list each, a group each."""
        seen.append((tuple(sizes), total.flatten().tolist(), log_weights.detach(), temperature, log_weights))
        drawn = [column for column in log_weights.exp().T]
        return None, drawn, [one.unsqueeze(-1) for one in drawn]

    authors(urn, 0.5, masks, sampler)()
    ours(urn, 0.5, masks)()
    [(sizes, total, start, temperature, log_weights)] = seen
    assert (sizes, total, temperature) == ((3, 5, 4), [5] * 7, 0.5)
    assert torch.equal(start, urn.log_weights(0.5).float()) and log_weights.grad is not None


def test_the_sampler_page_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["sampler", "--quick", "--output", str(tmp_path)])
    page = (tmp_path / "benchmark.md").read_text()
    assert "Not measured: " in page and "the authors' code: no checkout given" in page
    table = pd.read_csv(tmp_path / "benchmark.csv")
    assert {"work", "ours", "other_side", "other", "unit", "ratio", "target", "reached", "note"} <= set(table)
    assert json.loads((tmp_path / "benchmark.json").read_text())["environment"]["cores"] >= 1
    made = committed_table(tmp_path, "benchmark", "The distribution")
    assert len(made.rows) == len(table) and made.provenance[0] is not None
    assert "wrote" in capsys.readouterr().out


def test_a_missing_checkout_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: .* has no mvhg/pt_fmvhg.py"):
        benchmark.main(["sampler", "--official", str(tmp_path), "--output", str(tmp_path)])


@pytest.mark.parametrize(("room", "sides"), [("weak_supervision", METHODS), ("clustering", PRIORS)])
def test_step_times_of_every_side_are_written_where_table_3_reads_them(
    room: str, sides: tuple[str, ...], tmp_path: Path
) -> None:
    benchmark.main([room, "--quick", "--output", str(tmp_path)])
    table = pd.read_csv(tmp_path / f"{room}.csv")
    assert list(table["side"]) == list(sides) and (table["seconds_per_step"] > 0).all()
    assert table["ratio"].iloc[0] == 1.0
    assert ": seconds per step\n" in (tmp_path / f"{room}.md").read_text()
