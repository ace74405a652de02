"""Tables and figures of the weak supervision from metrics made up here."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import Container

from experiments.disentanglement.figures import figure_11
from experiments.disentanglement.tables import figure_11_table, score_notes
from experiments.disentanglement.tables import tables as score_tables
from experiments.figures import draw
from experiments.results import read_paper
from experiments.settings import ExperimentError
from experiments.tables import Table
from experiments.weak_supervision.ablation import ablation_runs, ablation_table, figure_13
from experiments.weak_supervision.blocks import Block, read_blocks, with_scaled_error
from experiments.weak_supervision.drift import figure_drift
from experiments.weak_supervision.figures import (
    ERRORS,
    figure_2,
    figure_profile,
    figures,
    relative_bounds,
)
from experiments.weak_supervision.fixed_set import agreement, fixed_set_table
from experiments.weak_supervision.imposed import figure_counts, preferred_table
from experiments.weak_supervision.pictures import CAPTIONS, figure_pictures, picture_table
from experiments.weak_supervision.runtimes import read_benchmark, table_3
from experiments.weak_supervision.table_1 import figure_2_table, notes, table_1
from experiments.weak_supervision.tables import tables
from tests.experiments.weak_supervision_metrics import (
    write_ablations,
    write_block,
    write_fixed_set,
    write_imposed,
    write_pictures,
    write_scores,
)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All methods at quick with two seeds, ablations and scores; two methods at paper with one seed."""
    folder = tmp_path_factory.mktemp("results") / "metrics"
    write_block(folder)
    write_ablations(folder)
    write_scores(folder)
    write_block(folder, "paper", "mpi3d_toy", seeds=[1], methods=["hgvae", "label_vae"], pairs=[3, 1])
    return folder


@pytest.fixture
def quick(metrics: Path) -> Block:
    return read_blocks(metrics)[1]


def cells(table: Table, *first: str) -> list[str]:
    found = [list(row[len(first) :]) for row in table.rows if tuple(row[: len(first)]) == first]
    assert len(found) == 1
    return found[0]


def test_blocks_come_largest_first_and_apart(metrics: Path, tmp_path: Path) -> None:
    paper, quick = read_blocks(metrics)
    assert (paper.profile, paper.data, paper.suffix) == ("paper", "mpi3d_toy", "paper")
    assert (quick.profile, quick.data, quick.suffix) == ("quick", "mpi3d_sim", "quick")
    assert paper.methods == ["label_vae", "hgvae"]
    assert quick.methods[-3:] == ["posterior_hgvae", "fixed_k", "fixed_k_joint"]
    assert paper.shared == [1, 3]
    assert set(paper.table("profile")["run_id"]) == set(paper.metrics["run_id"])
    write_block(tmp_path, "paper", "mpi3d_sim", methods=["ada_vae"], pairs=[0])
    assert [block.suffix for block in read_blocks(tmp_path)] == ["paper_mpi3d_sim"]


def test_table_1_shows_mean_and_deviation_beside_the_papers_line(metrics: Path, quick: Block) -> None:
    table = table_1(quick, read_paper("table_1"))
    assert list(table.header) == ["method", "s = 0: I", "s = 1: S", "I", "s = 3: S", "I", "s = 5: S", "I", "seeds"]
    assert all(len(row) == len(table.header) for row in table.rows)
    # Two seeds, 0.01 apart: the standard deviation with n - 1 is 0.01 / sqrt(2).
    independent, shared = "0.205 ± 0.007", "0.305 ± 0.007"
    assert cells(table, "HGVAE") == [independent, *[shared, independent] * 3, "2"]
    assert cells(table, "paper: LabelVAE, AdaVAE") == [*["not legible"] * 7, "3"]
    legible = ["0.18 ± 0.01", "0.22 ± 0.05", "0.19 ± 0.01", "0.08 ± 0.02", "0.28 ± 0.01", "0.28 ± 0.01", "0.01 ± 0.00"]
    assert cells(table, "paper: HGVAE") == [*legible, "3"]
    unknown = quick.metrics.copy()  # a run whose test pairs showed too little has no accuracy
    unknown.loc[(unknown["method"] == "hgvae") & (unknown["seed"] == 0), "shared_accuracy"] = math.nan
    table = table_1(Block(quick.folder, quick.profile, quick.data, unknown), read_paper("table_1"))
    assert cells(table, "HGVAE")[1:3] == ["0.310", independent]
    small = table_1(read_blocks(metrics)[0], read_paper("table_1"))
    assert cells(small, "LabelVAE") == ["-", "0.310", "0.110", "0.310", "0.110", "-", "-", "0-1"]
    assert cells(small, "ours: PosteriorHGVAE") == ["-"] * 7 + ["0"]


def test_figure_2_table_has_all_readings(quick: Block) -> None:
    table = figure_2_table(quick)
    assert all(len(row) == len(table.header) for row in table.rows)
    assert len(table.rows) == 6 * 4
    shown = dict(zip(table.header[3:], cells(table, "ours: PosteriorHGVAE", "3", "4"), strict=True))
    # E[k-hat] is 4.35 and 4.15: errors 0.1225 and 0.0225, half their difference is the standard error.
    assert shown["E[k-hat]"] == "4.25 ± 0.10"
    assert shown["(E[k-hat] - k)^2"] == "0.07 ± 0.05"
    assert shown["latents"] == "7"
    assert shown["bound, joint"] == "-1508.50 ± 0.50"
    assert shown["seeds"] == "2"
    label = dict(zip(table.header[3:], cells(table, "LabelVAE", "0", "7"), strict=True))
    assert label["(E[k-hat] - k)^2"] == "36.00 ± 0.00"
    assert label["literal: (d - E[k-hat] - s)^2"] == "81.00 ± 0.00"
    assert (label["A: independent / shared / inactive"], label["T"]) == ("1.0 / 9.0 / 0.0", "3.50 ± 0.00")
    some = quick.metrics.copy()
    some.loc[some["seed"] == 0, ["active_independent", "told_apart"]] = np.nan
    table = figure_2_table(replace(quick, metrics=some))
    label = dict(zip(table.header[3:], cells(table, "LabelVAE", "0", "7"), strict=True))
    assert (label["A: independent / shared / inactive"], label["T"]) == ("1.0 / 9.0 / 0.0 (1 of 2)", "3.50 (1 of 2)")


def test_a_block_says_how_it_was_made_and_what_is_missing(metrics: Path, quick: Block) -> None:
    text = notes(quick)
    assert "- data: mpi3d_sim, a rendered stand-in, 32 x 32 pixels\n- profile: quick\n" in text
    assert "- steps: 2,000 of 32 pairs\n- learning rate: 0.001\n- seeds: 0, 1\n- hardware: a processor\n" in text
    assert "median 100 s over the 48 of 48 runs" in text
    assert "no run" not in text
    assert "- no run: LabelVAE at s = 0, 5; AdaVAE at s = 0, 1, 3, 5; HGVAE at s = 0, 5; " in notes(
        read_blocks(metrics)[0]
    )
    slower = quick.metrics.copy()
    slower.loc[slower["method"] == "hgvae", "learning_rate"] = 1e-6
    text = notes(Block(quick.folder, quick.profile, quick.data, slower))
    assert "- learning rate: LabelVAE 0.001; AdaVAE 0.001; HGVAE 1e-06; ours: PosteriorHGVAE 0.001" in text


def test_table_3_has_a_part_for_every_size(tmp_path: Path) -> None:
    path = tmp_path / "weak_supervision.csv"
    sides = {"hgvae": 0.206, "label_vae": 0.2, "label_vae_compiled": 0.1}
    lines = [
        {"side": side, "size": 64, "batch": 64, "seconds_per_step": one, "ratio": one / 0.2}
        for side, one in sides.items()
    ]
    lines += [{"side": "hgvae", "size": 32, "batch": 32, "seconds_per_step": 0.01}]
    pd.DataFrame(lines).to_csv(path, index=False)
    small, full, paper = table_3(read_benchmark(path), read_paper("table_3"))
    assert full.title.endswith("64 x 64 pixels, 64 pairs a step")
    assert [row[0] for row in full.rows] == ["LabelVAE", "HGVAE"]
    assert cells(full, "HGVAE") == ["0.2060", "1.030"]
    assert cells(small, "HGVAE") == ["0.0100", "-"]
    assert cells(paper, "paper: LabelVAE")[0] == "not legible ± 273.0"
    assert [row[-1] for row in paper.rows] == ["1.00", "1.37", "1.02"]
    pd.DataFrame(lines).drop(columns="batch").to_csv(path, index=False)
    with pytest.raises(ExperimentError, match="has no column batch: run `make reproduce-table3` again"):
        read_benchmark(path)
    with pytest.raises(ExperimentError, match="does not exist: run `make reproduce-table3` first"):
        read_benchmark(tmp_path / "none.csv")


def test_ablations_stand_below_the_method_they_change(quick: Block) -> None:
    table = ablation_table(quick)
    assert [row[0] for row in table.rows] == [
        "HGVAE: as defined",
        "HGVAE: final temperature 0.1",
        "HGVAE: final temperature 1",
        "HGVAE: joint bound",
        "HGVAE: learning rate 0.003",
        "HGVAE: learning rate 0.0001",
        "HGVAE: model.sort_noise=0.5",
    ]
    assert {row[1] for row in table.rows} == {"3"}
    assert cells(table, "HGVAE: joint bound")[3] == "5.50 ± 0.50"
    text = notes(quick, ablation_runs(quick))
    assert "- learning rate: 0.0001, 0.001, 0.003\n" in text
    assert "over the 14 of 14 runs" in text
    assert "no run" not in text


def test_figure_11_table(quick: Block) -> None:
    table = figure_11_table(quick)
    assert table.title.endswith("; examples to fit on: 5,000, of DCI 1,000")
    assert "32 x 32 pixels, 2,000 steps of 32 pairs" in table.title
    assert score_notes(quick).startswith("- seeds: 0, 1\n- hardware: a processor\n- time per run: median 100 s over")
    assert len(table.header) == 2 + 9 + 1
    assert cells(table, "AdaVAE", "5") == [*["0.155 ± 0.007"] * 9, "2"]  # (k + 1) / 20, and half a hundredth


def test_all_tables_are_written(metrics: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tables(metrics) | score_tables(metrics)
    assert "not written: " in capsys.readouterr().out  # there is no benchmark
    text, latex = files["table_1.md"], files["table_1.tex"]
    headings = ["Profile paper, mpi3d (toy)", "Profile quick, mpi3d_sim, a rendered stand-in"]
    assert re.findall("^## (.*)$", text, re.MULTILINE) == headings
    assert "Section 5.2, Table 1" in text
    assert latex.count(r"\begin{tabular}") == 2
    assert {line.count(" & ") for line in latex.splitlines() if " & " in line} == {8}
    for name in ("figure_11", "weak_supervision_ablation"):  # made of one block alone
        assert re.findall("^## (.*)$", files[f"{name}.md"], re.MULTILINE) == headings[1:]


def test_a_benchmark_alone_gives_table_3(tmp_path: Path) -> None:
    (tmp_path / "benchmark").mkdir()
    benchmark = tmp_path / "benchmark" / "weak_supervision.csv"
    benchmark.write_text("side,size,batch,seconds_per_step,ratio\nlabel_vae,64,64,0.2,1\n")
    files = tables(tmp_path / "metrics")
    assert list(files) == ["table_3.md", "table_3.tex"]
    assert "0.2000" in files["table_3.md"]


def test_missing_metrics_are_named(metrics: Path, tmp_path: Path) -> None:
    for make in (tables, figures, score_tables):
        with pytest.raises(ExperimentError, match=r"weak_supervision_metrics.csv does not exist"):
            make(tmp_path)
    paper = read_blocks(metrics)[0]
    with pytest.raises(ExperimentError, match="holds no run of the profile paper"):
        figure_11_table(paper)
    with pytest.raises(ExperimentError, match="the metrics hold no ablation at profile paper, mpi3d"):
        figure_13(paper)


def bars(container: Container) -> tuple[np.ndarray, np.ndarray]:
    """Heights of the marks and half lengths of the bars."""
    segments = np.array(container[2][0].get_segments(), dtype=float)[:, :, 1]
    return np.asarray(container[0].get_ydata(), dtype=float), (segments[:, 1] - segments[:, 0]) / 2


def test_figure_2_draws_means_and_standard_errors(quick: Block) -> None:
    figure = figure_2(quick)
    for ax, column in zip(figure.axes, ERRORS, strict=True):
        assert ax.get_yscale() == "symlog"
        drawn = {container.get_label(): container for container in ax.containers}
        assert list(drawn) == ["LabelVAE", "AdaVAE", "HGVAE", "ours: PosteriorHGVAE"]  # where k is given, no error
        heights, lengths = bars(drawn["HGVAE"])
        values = with_scaled_error(quick.runs("hgvae"), 7).pivot(index="shared", columns="seed", values=column)
        np.testing.assert_allclose(heights, values.mean(axis=1))
        np.testing.assert_allclose(lengths, values.std(axis=1) / math.sqrt(2))
    caption = " ".join(figure.texts[-1].get_text().split())
    assert caption.endswith(
        "Profile quick, mpi3d_sim, a rendered stand-in: 32 x 32 pixels, 2,000 steps of 32 pairs, seeds 0, 1."
    )
    plt.close(figure)


def test_the_bound_is_shown_against_that_of_the_truth(quick: Block) -> None:
    profile = quick.table("profile").query("method == 'hgvae' and shared == 5")
    bounds = relative_bounds(profile, "joint", 2)
    assert (bounds.loc[2] == 0).all()
    one = profile[profile["seed"] == 1].set_index("independent")["joint"]
    np.testing.assert_allclose(bounds[1], one - one[2])
    figure = figure_profile(quick)
    grid = np.array(figure.axes).reshape(6, 4)
    ax = grid[2, 3]  # HGVAE, s = 5
    truth, per_view, best_per_view, joint, best_joint = ax.lines
    assert list(truth.get_xdata()) == [2, 2]
    np.testing.assert_allclose(joint.get_ydata(), bounds.mean(axis=1))
    assert list(best_joint.get_xdata()) == [bounds.mean(axis=1).idxmax()]
    assert list(best_per_view.get_xdata()) == [int(np.argmax(per_view.get_ydata()))]
    assert len(grid[3, 0].lines[1].get_xdata()) == 8  # PosteriorHGVAE has seven latents
    plt.close(figure)


def test_the_k_that_the_bound_prefers_is_shown_where_several_were_imposed(tmp_path: Path) -> None:
    write_block(tmp_path, methods=["hgvae", "fixed_k_joint"])
    for count, bound in ((2, -1507.0), (6, -1509.0)):  # beside -1508 at the truth, k = 4
        write_imposed(tmp_path, 3, count, bound)
    (block,) = read_blocks(tmp_path)
    figure = figure_counts(block)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    preferred = lines["largest joint bound among the k imposed"]
    np.testing.assert_array_equal(np.asarray(preferred.get_xydata()), [[4.0, 2.0]])
    heights, _ = bars(figure.axes[0].containers[0])
    np.testing.assert_allclose(heights, [8 * 0.7] * 4)
    assert "of 7 latents, s = 3: 2, 4, 6, seed 0)" in " ".join(figure.texts[-1].get_text().split())
    plt.close(figure)


def test_the_preferred_k_is_that_of_the_most_imposed_number_of_latents(tmp_path: Path) -> None:
    write_block(tmp_path, methods=["hgvae", "fixed_k_joint"])
    write_imposed(tmp_path, 3, 2, -1000.0)  # of 7 latents only two k are known
    for count, bound in ((4, -1510.0), (5, -1507.5), (6, -1509.0)):
        write_imposed(tmp_path, 3, count, bound, latents=10)
    (block,) = read_blocks(tmp_path)
    table = preferred_table(block)
    assert table.header[2] == "latents of 10 preferred"
    assert [list(row) for row in table.rows] == [["3", "4", "5", "-1507.50", "-2.50", "-1.50", "-", "-", "8.10", "0"]]
    figure = figure_counts(block)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    preferred = lines["largest joint bound among the k imposed"]
    np.testing.assert_array_equal(np.asarray(preferred.get_xydata()), [[4.0, 3.5]])
    plt.close(figure)
    assert "# The number that the bound itself prefers" in tables(tmp_path)["figure_2.md"]


def test_pairs_of_a_fixed_set_stand_beside_the_papers_line(tmp_path: Path) -> None:
    """Correlations over the seven cells, s = 0 of the other runs."""
    write_block(tmp_path, methods=["hgvae"], seeds=[0])
    paper = read_paper("table_1")
    theirs = {(shared, part): mean for shared, parts in paper["hgvae"].items() for part, (mean, _) in parts.items()}
    fixed = {cell: mean for cell, mean in theirs.items() if cell[0]}
    write_fixed_set(tmp_path, fixed | {(0, "independent"): 0.9})  # of s = 0 the same pairs as the other's: not twice
    (block,) = read_blocks(tmp_path)
    assert cells(fixed_set_table(block, paper), "HGVAE")[:3] == ["0.200", "0.220", "0.190"]
    found = re.findall(r"([+-][\d.]+) over (\d) cells", agreement(block, paper))
    random_sets = [0.3 if part == "shared" else 0.2 for _, part in theirs]
    for (correlation, number), ours in zip(found, (random_sets, [0.2, *fixed.values()]), strict=True):
        assert number == "7"
        assert float(correlation) == pytest.approx(np.corrcoef(ours, list(theirs.values()))[0, 1], abs=0.006)
    assert "where the first s factors" in tables(tmp_path)["table_1.md"]


def test_pictures_are_tiled_and_shown(tmp_path: Path) -> None:
    """Grey images survive a JPEG within a few levels of 255."""
    images = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * 40
    table = picture_table({kind: np.broadcast_to(images, (2, 3, 8, 8, 3)) for kind in CAPTIONS})
    assert table[["kind", "rows", "columns"]].values.tolist() == [[kind, 2, 3] for kind in CAPTIONS]
    write_block(tmp_path, methods=["hgvae"], pairs=[3], seeds=[0])
    write_pictures(tmp_path, "hgvae", 3, table)
    (block,) = read_blocks(tmp_path)
    for kind in CAPTIONS:
        figure = figure_pictures(block, kind)
        shown = np.asarray(figure.axes[0].images[0].get_array())[4::8, 4::8, 0]
        np.testing.assert_allclose(shown, images[..., 0, 0, 0], atol=4)
        assert figure.axes[0].get_title() == "HGVAE"
        plt.close(figure)


def test_traversals_are_of_the_five_latents_that_carry_most(tmp_path: Path) -> None:
    write_block(tmp_path, methods=["hgvae"], pairs=[3], seeds=[0])
    write_pictures(tmp_path, "hgvae", 3, picture_table({"traversals": np.zeros((10, 7, 8, 8, 3), dtype=np.uint8)}))
    figure = figure_pictures(read_blocks(tmp_path)[0], "traversals")
    assert np.asarray(figure.axes[0].images[0].get_array()).shape[:2] == (5 * 8, 7 * 8)
    plt.close(figure)


def test_figure_11_has_a_panel_per_score(quick: Block) -> None:
    figure = figure_11(quick)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 7
    assert titles[-1] == "downstream accuracy"
    heights, _ = bars(figure.axes[2].containers[1])  # MIG, AdaVAE: k = 2, 4, 6, 7
    np.testing.assert_allclose(heights, [0.155, 0.255, 0.355, 0.405])
    plt.close(figure)


def test_figure_13_changes_one_setting_at_a_time(quick: Block) -> None:
    figure = figure_13(quick)
    loss, _, error, rate_error = (ax.containers[0][0].get_xydata() for ax in figure.axes)
    base = quick.runs("hgvae", 3)["count_error"].mean()
    np.testing.assert_allclose(error, [[0.01, base], [0.1, 2.5], [1.0, 1.5]])
    np.testing.assert_allclose(rate_error, [[0.0001, 4.5], [0.001, base], [0.003, 3.5]])
    # The last epoch's: less its bound.
    np.testing.assert_allclose(loss, [[0.01, 1500.5], [0.1, 1510.5], [1.0, 1500.5]])
    plt.close(figure)


def test_figure_13_names_its_lines_where_pairs_share_several_numbers(
    metrics: Path, quick: Block, tmp_path: Path
) -> None:
    for name in ("metrics", "history"):
        path = tmp_path / f"weak_supervision_{name}.csv"
        lines = pd.read_csv(metrics / path.name, dtype={"changes": str})
        of_s = lines[lines["shared"] == 3]
        other = of_s.assign(shared=6, run_id=of_s["run_id"] + "0")
        pd.concat([lines[lines["shared"] != 6], other]).to_csv(path, index=False)
    assert not figure_13(quick).legends
    figure = figure_13(replace(quick, folder=tmp_path))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["s = 3", "s = 6"]
    colours = {ax.containers[number][0].get_color() for ax in figure.axes for number in (0, 1)}
    assert len(colours) == 2
    plt.close("all")


def test_drift_is_shown_beside_hgvae_as_defined(metrics: Path, quick: Block, tmp_path: Path) -> None:
    path = tmp_path / "weak_supervision_history.csv"
    history = pd.read_csv(metrics / path.name, dtype={"changes": str}).assign(log_weight_difference=0.25)
    history.to_csv(path, index=False)
    write_block(tmp_path, methods=["ada_vae"])
    figure = figure_drift(replace(quick, folder=tmp_path))
    above, below = figure.axes
    assert above.get_title() == "s = 3, k = 4"
    _, *lines = sorted(above.lines, key=lambda line: str(line.get_label()))
    assert {line.get_label() for line in lines} == {"as defined", "joint bound", "model.sort_noise=0.5"}
    assert [np.asarray(line.get_ydata()).tolist() for line in lines[:2]] == [[5.0, 8.1], [5.0, 7.9]]
    assert all(set(np.asarray(line.get_ydata())) == {0.25} for line in below.lines)
    plt.close(figure)
    with pytest.raises(ExperimentError, match="no history of HGVAE with a changed setting"):
        figure_drift(quick)  # whose history has no log weights


def test_a_block_without_pictures_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_block(tmp_path, methods=["fixed_k"], pairs=[0], seeds=[0])
    draw(figures(tmp_path), tmp_path / "figures")
    printed = capsys.readouterr().out
    assert "not drawn: figure_2_quick: the metrics hold no run of a method that estimates k" in printed
    assert "wrote" in printed
