"""Reading the collected results: lines by profile and changes, blocks, provenance, the paper's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.results import (
    axes_columns,
    blocks,
    describe_seconds,
    describe_seeds,
    ordered,
    paper_value,
    provenance_of,
    read_left_out,
    read_metrics,
    read_paper,
    spread,
)
from experiments.settings import ExperimentError

FACTS = {"commit": "123456789012", "dirty": False, "device": "d", "seconds": 2.0, "torch": "2.0"}


def line(**values: Any) -> dict[str, Any]:
    origin = {
        "prior": "uniform",
        "version": 60,
        "reading": "",
        "changes": "",
        "profile": "quick",
        "seed": 0,
        "run_id": "01",
    }
    return origin | values | FACTS


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    lines = [
        line(prior="hypergeometric", reading="counts", data="small", seed=1),
        line(data="large"),
        line(data="small", profile="paper", run_id="2"),
        line(data="small", changes="steps=3", seed=2),
    ]
    pd.DataFrame(lines).to_csv(tmp_path / "room_metrics.csv", index=False)
    return tmp_path


def test_lines_of_changed_runs_are_asked_for(metrics: Path) -> None:
    table = read_metrics(metrics, "room_metrics", dtype={"version": str})
    assert table["changes"].tolist() == ["", "", ""]
    assert table["reading"].tolist() == ["counts", "", ""]
    assert table["version"].tolist() == ["60", "60", "60"]
    assert table["run_id"].tolist() == ["01", "01", "2"]
    assert axes_columns(table) == ["prior", "version", "reading"]
    assert read_metrics(metrics, "room_metrics", changes=True)["changes"].tolist() == ["", "", "", "steps=3"]
    assert read_metrics(metrics, "room_metrics", profile="quick")["profile"].tolist() == ["quick", "quick"]


def test_what_cannot_be_read_is_named(metrics: Path) -> None:
    with pytest.raises(ExperimentError, match=r"room_metrics.csv holds no run of the profile huge"):
        read_metrics(metrics, "room_metrics", profile="huge")
    with pytest.raises(ExperimentError, match=r"urn_metrics.csv does not exist: run the experiment and"):
        read_metrics(metrics, "urn_metrics")
    (metrics / "urn_metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ExperimentError, match=r"urn_metrics.csv has no column changes, profile, seed, run_id"):
        read_metrics(metrics, "urn_metrics")
    text = (metrics / "room_metrics.csv").read_text()
    for content, reason in (
        (b"\xff\xfe,\x00\n", "can't be read"),
        (b"", "can't be read"),
        (bytes(500), "can't be read|has no column changes"),
        (text.encode() + text.splitlines()[1].encode() + b"\n", "holds a line twice"),
        (
            text.encode() + text.splitlines()[1].replace(",01,", ",other,").encode() + b"\n",
            "holds 01 and other, runs of the same kind and seed",
        ),
        (text.encode()[:-3], "ends within a line"),
        (text.replace("small", "", 1).encode(), ", line 2: data is damaged or missing"),
        (text.replace(",1,01,", ",x,01,", 1).encode(), ", line 2: seed is damaged or missing"),
        (text.replace(",2.0,2.0", ",two,2.0", 1).encode(), ", line 2: seconds is damaged or missing"),
        (text.replace(",123456789012,", ",,", 1).encode(), ", line 2: commit is damaged or missing"),
        (text.replace(",d,", ",,", 1).encode(), ", line 2: device is damaged or missing"),
    ):
        assert content != text.encode()
        (metrics / "urn_metrics.csv").write_bytes(content)
        with pytest.raises(ExperimentError, match=rf"urn_metrics.csv ?({reason})"):
            read_metrics(metrics, "urn_metrics")


def test_blocks_begin_with_the_largest_profile_and_known_data(metrics: Path) -> None:
    table = read_metrics(metrics, "room_metrics", changes=True)
    shown = [(block.profile, block.data, len(block.lines)) for block in blocks(table, ["small", "large"])]
    assert shown == [("paper", "small", 1), ("quick", "small", 2), ("quick", "large", 1)]
    assert [block.data for block in blocks(table.drop(columns="data"))] == ["", ""]
    assert ordered(["b", "new", "a"], ["a", "b"]) == ["a", "b", "new"]


def test_provenance_says_what_made_the_numbers(metrics: Path) -> None:
    table = read_metrics(metrics, "room_metrics", changes=True)
    made = provenance_of(table, "room_metrics.csv")
    assert made.seeds == (0, 1)  # lines of one run count once
    assert made.runs == (
        "prior=hypergeometric version=60 reading=counts 01",
        "prior=uniform version=60 2",
    )
    assert made.data == "small"
    assert made.commits == ("1234567890",)
    assert dict(made.lines())["time per run"] == "median 2 s over the 2 of 2 runs without interruption"
    changed = provenance_of(table[table["changes"] != ""].assign(dirty=True), "x")
    assert changed.runs == ("prior=uniform version=60 steps=3 01",)
    assert changed.commits == ("1234567890 with changes",)
    assert provenance_of(table.assign(dirty=float("nan")), "x").commits == ("1234567890",)  # nobody knows
    parts = provenance_of(table.assign(commit=f"{40 * 'a'} {40 * 'b'}"), "x")
    assert parts.commits == ("aaaaaaaaaa then bbbbbbbbbb",)
    assert describe_seconds(table.assign(seconds=float("nan"))) == "not known"
    assert describe_seeds(table) == "seeds 0, 1, 2"
    assert describe_seeds(table[:1]) == "seed 1"
    table = pd.DataFrame({"seed": [0, 1, 0], "version": ["full", "full", "80"]})
    assert describe_seeds(table, "version", {"80": "80 %"}) == "seeds 0, 1 (80 %: seed 0)"
    assert describe_seeds(table[:2], "version") == "seeds 0, 1"


def test_means_and_the_papers_numbers_in_words() -> None:
    assert [spread(pd.Series(values, dtype=float), 2) for values in ([], [1], [1, 3])] == ["-", "1.00", "2.00 ± 1.41"]
    assert paper_value([0.5, None], 1) == "0.5 ± not legible"
    assert paper_value(None, 1) == "not legible"
    assert read_paper("table_2")


def test_what_was_left_out_is_a_line_each(tmp_path: Path) -> None:
    assert read_left_out(tmp_path) == []
    (tmp_path / "left_out.csv").write_text("run,reason\nruns/a/b/1,not finished\n")
    assert read_left_out(tmp_path) == ["runs/a/b/1: not finished"]
    for content in ("a,b\n1,2\n", ""):
        (tmp_path / "left_out.csv").write_text(content)
        with pytest.raises(ExperimentError, match=r"left_out.csv .*: run `python -m scripts.aggregate` again"):
            read_left_out(tmp_path)
