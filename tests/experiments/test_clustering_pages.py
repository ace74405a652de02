"""Tables and figures of the clustering experiment from metrics made up here."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments.clustering.blocks import Block, paired, read_blocks
from experiments.clustering.figures import figure_3, figure_history, figures
from experiments.clustering.pictures import figure_confusion, figure_digits
from experiments.clustering.recovery import rank_correlation, recovery
from experiments.clustering.tables import WEIGHTS, notes, table_2, tables, weights_tables
from experiments.figures import draw
from experiments.results import read_paper
from experiments.settings import ExperimentError
from experiments.tables import Table
from tests.experiments.clustering_metrics import PRIORS, true_frequencies, write_block

MERGED = "hypergeometric, merged conditionals"


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All priors at quick with three seeds, the paper's priors at medium with one."""
    folder = tmp_path_factory.mktemp("metrics")
    write_block(folder)
    write_block(folder, "medium", "mnist", seeds=[1], priors=PRIORS[:3], versions=["80", "60"])
    return folder


@pytest.fixture
def quick(metrics: Path) -> Block:
    return read_blocks(metrics)[1]


def cells(table: Table, name: str) -> list[str]:
    return next(list(row[1:]) for row in table.rows if row[0] == name)


def edit(path: Path, **columns: object) -> pd.DataFrame:
    table = pd.read_csv(path, dtype={"version": str}).assign(**columns)
    table.to_csv(path, index=False)
    return table


def test_numbers_stand_beside_each_other_on_the_seeds_that_the_papers_priors_share(tmp_path: Path) -> None:
    """A single run of another prior takes no seed away; where the paper's share none, all are shown."""
    write_block(tmp_path, priors=PRIORS[:2], versions=["60"])
    write_block(tmp_path, priors=["hypergeometric"], versions=["60"], seeds=[0, 1])
    write_block(tmp_path, priors=[PRIORS[3]], versions=["60"], seeds=[1, 5])
    write_block(tmp_path, priors=["uniform"], versions=["80"], seeds=[3])
    write_block(tmp_path, priors=["hypergeometric"], versions=["80"], seeds=[4])
    [block] = read_blocks(tmp_path)
    seeds = paired(block.scores()).groupby(["version", "prior"])["seed"].unique().map(sorted).to_dict()
    of_60 = {("60", prior): [0, 1] for prior in (*PRIORS[:2], "hypergeometric")}
    assert seeds == of_60 | {("60", MERGED): [1], ("80", "uniform"): [3], ("80", "hypergeometric"): [4]}
    assert "- seeds: full" not in notes(block) and "2" not in notes(block).split("seeds: ")[1].split("\n")[0]


def test_blocks_come_largest_first_and_apart(metrics: Path, tmp_path: Path) -> None:
    blocks = read_blocks(metrics)
    assert [(block.profile, block.data) for block in blocks] == [("medium", "mnist"), ("quick", "digits_5000")]
    assert blocks[1].priors == [*PRIORS[:3], MERGED, "hypergeometric over assignments"]
    assert list(blocks[0].versions) == ["80", "60"]
    assert set(blocks[0].table("confusion")["run_id"]) == set(blocks[0].metrics["run_id"])
    for data in ("digits_5000", "mnist"):
        write_block(tmp_path, "quick", data, seeds=[0], priors=["uniform"], versions=["80"])  # looks like a number
    assert [block.suffix for block in read_blocks(tmp_path)] == ["quick_mnist_vade", "quick_vade"]
    assert all(list(block.versions.values()) == ["80 %"] for block in read_blocks(tmp_path))


def test_runs_with_changed_settings_stand_in_no_table(tmp_path: Path) -> None:
    write_block(tmp_path, seeds=[0])
    path = tmp_path / "clustering_metrics.csv"
    table = pd.read_csv(path, dtype={"version": str})
    changed = table.assign(changes="training.learning_rate=0.1", run_id=table["run_id"] + "changed", accuracy=0.1)
    pd.concat([table, changed]).to_csv(path, index=False)
    (block,) = read_blocks(tmp_path)
    assert not block.metrics["run_id"].str.endswith("changed").any()


def test_table_2_shows_mean_deviation_and_seeds(metrics: Path, quick: Block) -> None:
    table = table_2(quick, "test", read_paper("table_2"))
    assert len(table.header) == 1 + 3 * 4
    assert all(len(row) == len(table.header) for row in table.rows)
    # Accuracies 0.85, 0.86, 0.87; NMI 0.05 below, ARI 0.1 below: standard deviation exactly one point.
    assert cells(table, "uniform") == ["86.0 ± 1.0", "81.0 ± 1.0", "76.0 ± 1.0", "3"] * 3
    assert cells(table, "start: where the VaDE's training begins")[:4] == [
        "76.0 ± 1.0",
        "71.0 ± 1.0",
        "66.0 ± 1.0",
        "3",
    ]
    assert cells(table_2(quick, "test_subsampled", {}), "uniform")[0] == "85.0 ± 1.0"
    assert f"ours: {MERGED}" in [row[0] for row in table.rows]
    medium = table_2(read_blocks(metrics)[0], "test", read_paper("table_2"))
    assert cells(medium, "categorical") == ["-"] * 4 + ["81.0", "76.0", "71.0", "1"] * 2
    assert not any(row[0].startswith("ours") for row in medium.rows)


def test_the_papers_numbers_stand_below(quick: Block) -> None:
    paper = read_paper("table_2")
    table = table_2(quick, "test", paper)
    assert cells(table, "paper: uniform, categorical, hypergeometric") == (["not legible"] * 3 + ["5"]) * 3
    paper["uniform"]["full"]["accuracy"] = [94.5, 0.25]
    table = table_2(quick, "test", paper)
    assert cells(table, "paper: uniform")[:2] == ["94.5 ± 0.2", "not legible"]
    assert cells(table, "paper: categorical, hypergeometric")[0] == "not legible"


def test_a_block_says_how_it_was_made(tmp_path: Path) -> None:
    write_block(tmp_path, seeds=[0, 3], priors=["uniform"], versions=["full", "60"])
    seconds = [100.0, np.nan, 300.0, 500.0]
    table = pd.read_csv(tmp_path / "clustering_metrics.csv")
    runs = {run: index for index, run in enumerate(table["run_id"].unique())}
    position = table["run_id"].map(runs)
    edit(tmp_path / "clustering_metrics.csv", seconds=[seconds[one] for one in position], dirty=position == 0)
    text = notes(read_blocks(tmp_path)[0])
    assert "- data: 5,000-digit subset\n- profile: quick\n- epochs: 20\n- seeds: 0, 3\n" in text
    assert "median 300 s over the 3 of 4 runs without interruption" in text
    assert "- commit: aaaaaaaaaa, aaaaaaaaaa with changes\n" in text
    edit(tmp_path / "clustering_metrics.csv", seconds=np.nan)
    assert "- time per run: not known\n" in notes(read_blocks(tmp_path)[0])


def test_recovery_by_hand() -> None:
    truth = [0.1, 0.2, 0.3, 0.4]
    weights = pd.DataFrame(
        {
            "prior": "hypergeometric",
            "version": "60",
            "seed": 0,
            "run_id": "a",
            "matched_class": [0, 1, 2, 3, -1],
            "true_frequency": [*truth, np.nan],
            "learned_frequency": [0.2, 0.1, 0.3, 0.4, 0.0],
            "train_fraction": [0.25, 0.25, 0.25, 0.25, 0.0],
        }
    )
    learned, share = recovery(weights).to_dict("records")
    # Ranks 2 1 3 4 against 1 2 3 4: 1 - 6 * (1 + 1) / (4 * 15).
    assert learned["rank_correlation"] == pytest.approx(0.8)
    assert learned["mean_absolute_error"] == pytest.approx(0.05)
    assert learned["root_mean_square_error"] == pytest.approx(math.sqrt(0.005))
    assert math.isnan(share["rank_correlation"])
    assert share["mean_absolute_error"] == pytest.approx(0.1)
    with pytest.raises(ExperimentError, match=r"^the weights table lacks clusters of run a, .*aggregate` again"):
        recovery(weights.iloc[:3])


def test_rank_correlation_with_ties_has_the_stated_ceiling() -> None:
    learned = pd.Series(np.arange(10.0))
    assert rank_correlation(learned, pd.Series(true_frequencies(0.6))) == pytest.approx(math.sqrt(25 / 33))
    assert f"{math.sqrt(25 / 33):.2f} is the largest" in WEIGHTS.replace("\n", " ")
    assert math.isnan(rank_correlation(learned, pd.Series([0.1 + 1e-9 * one for one in range(10)])))


def test_weights_tables(quick: Block) -> None:
    full, _, sixty = weights_tables(quick)
    assert [row[0] for row in sixty.rows] == quick.priors
    assert cells(full, "hypergeometric")[1] == "undefined"  # all classes equally frequent
    assert cells(sixty, "uniform")[1:4] == ["undefined", "2.50 ± 0.00", "2.50 ± 0.00"]
    weights = quick.table("weights").query("prior == 'hypergeometric' and version == '60'")
    errors = (weights["learned_frequency"] - weights["true_frequency"]).abs().groupby(weights["seed"]).mean()
    assert cells(sixty, "hypergeometric")[2] == f"{100 * errors.mean():.2f} ± {100 * errors.std():.2f}"
    assert cells(sixty, "hypergeometric")[4:] == ["1.00 ± 0.00", "0.00 ± 0.00", "0.00 ± 0.00"]


def test_all_tables_are_made(metrics: Path) -> None:
    made = tables(metrics)
    assert set(made) == {"table_2.md", "table_2.tex", "clustering_weights.md"}
    headings = re.findall("^## (.*)$", made["table_2.md"], re.MULTILINE)
    assert headings == [f"VaDE's recipe, profile {place}" for place in ("medium, MNIST", "quick, 5,000-digit subset")]
    assert made["table_2.md"].count("not legible") == 2 * 9
    latex = made["table_2.tex"]
    assert latex.count(r"\begin{tabular}") == 4
    assert {line.count(" & ") for line in latex.splitlines() if " & " in line} == {12}
    assert made["clustering_weights.md"].count("undefined") > 1


def test_figure_3_shows_truth_mean_and_range(quick: Block) -> None:
    figure = figure_3(quick)
    axes = figure.axes[2]  # above at the right: E[x_k] / n at 60 %
    heights = [patch.get_height() for patch in axes.patches]
    np.testing.assert_allclose(heights, true_frequencies(0.6))
    weights = quick.table("weights").query("prior == @MERGED and version == '60'")
    learned = weights.pivot(index="matched_class", columns="seed", values="learned_frequency")
    container = axes.containers[3]  # after the bars, the control and the exact law
    assert container.get_label() == "learned, merged conditionals"
    np.testing.assert_allclose(np.asarray(container[0].get_ydata(), dtype=float), learned.mean(axis=1))
    low, high = np.array(container[2][0].get_segments(), dtype=float)[:, :, 1].T
    np.testing.assert_allclose(low, learned.min(axis=1))
    np.testing.assert_allclose(high, learned.max(axis=1))
    control = axes.containers[1]  # the shares of the uniform prior's clusters, here those of the classes
    assert control.get_label().startswith("control")
    np.testing.assert_allclose(np.asarray(control[0].get_ydata(), dtype=float), true_frequencies(0.6))
    plt.close(figure)


def test_confusion_is_ordered_by_class_and_states_the_accuracy(quick: Block) -> None:
    figure = figure_confusion(quick)
    counts = quick.table("confusion").query("prior == 'categorical' and version == '80' and seed == 0")
    shares = counts.pivot(index="cluster", columns="class", values="digits").to_numpy()
    axes = figure.axes[4]
    shown = np.asarray(axes.images[0].get_array())
    assert (shown.argmax(0) == range(10)).all()
    np.testing.assert_allclose(np.sort(np.diag(shown)), np.sort(shares.max(0)))  # 100 digits a class
    assert axes.get_title() == f"categorical, 80 %: {100 * shares.max(0).sum() / 1000:.1f} %"
    plt.close(figure)


def test_generated_digits_stand_in_the_line_of_their_class(tmp_path: Path) -> None:
    write_block(tmp_path, seeds=[0], priors=["hypergeometric"], versions=["full"])
    path = tmp_path / "clustering_generated.csv"
    table = pd.read_csv(path)
    # A cluster's images are as dark as its class, and cluster 3 has no class.
    table.loc[table["cluster"] == 3, "matched_class"] = -1
    shades = table["matched_class"].where(table["matched_class"] >= 0, 10)
    table["pixels"] = [base64.b64encode(bytes([10 * shade]) * 784).decode() for shade in shades]
    table.to_csv(path, index=False)
    figure = figure_digits(read_blocks(tmp_path)[0])
    axes = figure.axes[0]
    lines = np.asarray(axes.images[0].get_array()).max(axis=1)
    shown = [int(lines[round(tick)]) // 10 for tick in axes.get_yticks()]
    assert shown == sorted(set(shades))
    assert [label.get_text() for label in axes.get_yticklabels()] == [*(str(one) for one in shown[:-1]), "none"]
    plt.close(figure)


def test_digits_of_versions_whose_digits_are_not_kept_are_missed_by_name(tmp_path: Path) -> None:
    write_block(tmp_path, priors=["hypergeometric"], versions=["60"])
    edit(tmp_path / "clustering_metrics.csv", version="20")
    with pytest.raises(ExperimentError, match="digits are kept of the versions full, 80, 60; none was run at VaDE's"):
        figure_digits(read_blocks(tmp_path)[0])


def test_every_figure_of_one_seed_without_the_full_version_is_drawn(metrics: Path, tmp_path: Path) -> None:
    made = {name: page for name, page in figures(metrics).items() if name.endswith("_medium_vade")}
    assert len(draw(made, tmp_path)) == 2 * 4


def test_a_figure_without_runs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_block(tmp_path, seeds=[0], priors=["uniform"], versions=["full"])
    made = figures(tmp_path)
    draw(made, tmp_path / "figures")
    printed = capsys.readouterr().out
    assert "not drawn: figure_3_quick_vade: the metrics hold no run of hypergeometric or" in printed
    with pytest.raises(ExperimentError, match="nothing to draw: figure_3_quick_vade: the metrics hold no run of"):
        draw({"figure_3_quick_vade": made["figure_3_quick_vade"]}, tmp_path / "figures")


def test_curves_and_numbers_of_the_priors_are_of_the_same_seeds(tmp_path: Path) -> None:
    """The uniform prior has a second seed, which starts elsewhere: its mean would not be beside the other's."""
    write_block(tmp_path, seeds=[0], priors=["uniform", "hypergeometric"], versions=["60"])
    write_block(tmp_path, seeds=[1], priors=["uniform"], versions=["60"])
    (block,) = read_blocks(tmp_path)
    history = block.table("history").query("prior == 'uniform' and seed == 0").set_index("epoch")
    figure = figure_history(block)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(np.asarray(lines["uniform"].get_ydata(), dtype=float), history["elbo"])
    plt.close(figure)
    tables_of = [table_2(block, "test", read_paper("table_2")), *weights_tables(block)]
    assert [cells(table, "uniform")[place] for table, place in zip(tables_of, (-1, 0), strict=True)] == ["1", "1"]
