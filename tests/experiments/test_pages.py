"""Pages from committed files: the same bytes again, nothing drawn twice, the summaries of README and documentation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments.claims.rules import Claim
from experiments.claims.summary import END, START, judge_all, replace_between_markers, summary
from experiments.clustering.tables import tables as clustering_tables
from experiments.figures import draw
from experiments.report.section import Shown
from experiments.report.sections import sections
from experiments.settings import ExperimentError
from experiments.weak_supervision.tables import tables as weak_supervision_tables
from scripts import pages
from tests.experiments import weak_supervision_metrics
from tests.experiments.clustering_metrics import write_block
from tests.experiments.helpers import CHECKOUT

RESULTS = CHECKOUT / "results"
OF_ITS_OWN = {"mpi3d_sim_contact_sheet.png", "mpi3d_sim_contact_sheet.pdf"}  # made from images, not from metrics


def pinned(package: str) -> str:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))


def test_the_committed_pages_come_from_the_committed_metrics(tmp_path: Path) -> None:
    pages.main(["--metrics", str(RESULTS / "metrics"), "--output", str(tmp_path), "--no-report"])
    parts = ["tables"] + (["figures"] if version("matplotlib") == pinned("matplotlib") else [])
    for part in parts:
        committed = {path.name: path.read_bytes() for path in (RESULTS / part).iterdir() if path.name not in OF_ITS_OWN}
        made = {path.name: path.read_bytes() for path in (tmp_path / part).iterdir()}
        assert sorted(made) == sorted(committed)
        assert [name for name in made if made[name] != committed[name]] == []


@pytest.mark.parametrize(("file", "headlines"), [("README.md", True), ("docs/reproduction.md", False)])
def test_readme_and_documentation_show_the_committed_results(
    file: str, headlines: bool, committed_claims: list[Claim]
) -> None:
    text = summary(committed_claims, headlines).markdown().strip()
    assert (CHECKOUT / file).read_text() == replace_between_markers(CHECKOUT / file, text)


@pytest.mark.parametrize("text", ["", f"{START}\n", f"{END}\n{START}\n", f"{START}\n{START}\n{END}\n"])
def test_a_file_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    write_block(tmp_path, versions=["60"])
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(ExperimentError, match=r"page.md needs one line <!-- results:start -->"):
        pages.show_claims(tmp_path, tmp_path / "out", None, path)
    assert path.read_text() == text


def test_summary_and_headlines_go_between_the_markers_of_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_block(tmp_path, versions=["60"])
    files = {name: tmp_path / f"{name}.md" for name in ("claims", "readme")}
    for path in files.values():
        path.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    pages.show_claims(tmp_path, tmp_path / "out", *files.values())
    assert "claims are judged" in capsys.readouterr().out
    written, headlines = (path.read_text() for path in files.values())
    for text in (written, headlines):
        assert text.startswith(f"before\n{START}\n| claim |")
        assert text.endswith(f"|\n{END}\nafter\n")
        assert "the hypergeometric prior is better than the others" in text
    assert "the categorical prior is below the uniform one" in written
    assert "the categorical prior is below the uniform one" not in headlines


def test_nothing_is_drawn_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, output = tmp_path / "metrics", tmp_path / "local"
    write_block(metrics, versions=["60"], priors=["uniform", "hypergeometric"])
    drawn: list[Path] = []

    def write_pages(metrics: Path, output: Path) -> list[str]:
        drawn.append(output)
        (output / "tables").mkdir(exist_ok=True)
        (output / "tables" / "table.md").write_text("a table")
        return ["figures of urn: no runs"]

    monkeypatch.setattr(pages, "write_pages", write_pages)

    def times(change: Callable[[], object] = lambda: None) -> int:
        change()
        pages.main(["--metrics", str(metrics), "--output", str(output), "--no-report"])
        return len(drawn)

    assert times() == 1
    assert "not made: figures of urn: no runs" in capsys.readouterr().out
    assert times() == 1
    assert "up to date" in capsys.readouterr().out
    assert times(lambda: (output / "tables" / "table.md").write_text("somebody wrote into it")) == 2
    path = metrics / "clustering_metrics.csv"
    assert times(lambda: path.write_text(path.read_text().replace("0.", "0.1", 1))) == 3
    assert times(lambda: (output / ".pages").write_text("{")) == 4
    (tmp_path / "benchmark").mkdir()
    assert times(lambda: (tmp_path / "benchmark" / "one.csv").write_text("b\n2\n")) == 5
    assert times() == 5


def test_a_folder_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .* holds no metrics: run the experiments"):
        pages.main(["--metrics", str(tmp_path), "--output", str(tmp_path / "out")])


def test_a_page_of_another_kind_of_file_needs_no_metrics(tmp_path: Path) -> None:
    shutil.copy(RESULTS / "metrics" / "gradient_study.csv", tmp_path)
    pages.main(["--metrics", str(tmp_path), "--output", str(tmp_path / "out"), "--only", "gradient_study"])
    assert (tmp_path / "out" / "tables" / "gradient_study.md").is_file()


def test_a_figure_of_other_runs_does_not_stay_where_it_can_be_drawn_no_more(tmp_path: Path) -> None:
    def fail() -> Figure:
        raise ExperimentError("no run")

    draw({"a": plt.figure, "a_b": plt.figure}, tmp_path)
    draw({"a": fail, "c": plt.figure}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a_b.pdf", "a_b.png", "c.pdf", "c.png"}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ("--only table_1 --claims a.md", "--only makes that alone: leave --claims out"),
        ("--report r.html --only table_1", "--report makes that alone: leave --only out"),
        ("--report r.html --no-report", "--report makes that alone: leave --no-report out"),
        ("--report r.html --readme a.md", "--report makes that alone: leave --readme out"),
    ],
)
def test_options_without_effect_beside_others_are_refused(
    given: str, refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        pages.main(given.split())
    assert refused in capsys.readouterr().err


def test_a_broken_file_of_one_room_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_block(tmp_path, versions=["60"])
    (tmp_path / "urn_metrics.csv").write_bytes(b"estimator,profile\n\xff\xfe,\x00\n")
    (tmp_path / "left_out.csv").write_bytes(b"")
    pages.show_claims(tmp_path, tmp_path, None, None)
    printed, written = capsys.readouterr().out, (tmp_path / "verdicts.md").read_text()
    assert "left out: urn: " in printed
    assert "**Left out** of these numbers" in written
    assert "urn_metrics.csv can't be read" in written
    assert "left_out.csv can't be read" in written
    (tmp_path / "clustering_metrics.csv").write_text("prior,changes,profile,seed\na,,b,1\n")
    with pytest.raises(ExperimentError, match=r"clustering_metrics.csv has no column run_id"):
        judge_all(tmp_path)


def test_an_error_of_any_kind_of_one_part_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    write_block(tmp_path, versions=["60"])
    (tmp_path / "somebodys_own.csv").write_bytes(b"\xff\xfe,\x00")
    (tmp_path / "empty.csv").write_bytes(b"")
    monkeypatch.setattr("experiments.clustering.figures.figure_confusion", fail)
    monkeypatch.setattr("experiments.claims.clustering.level", fail)
    pages.main(["--metrics", str(tmp_path), "--report", str(tmp_path / "report.html")])
    assert "claims of clustering: the metrics can&#39;t be read (division" in (tmp_path / "report.html").read_text()
    pages.write_pages(tmp_path, tmp_path / "out", ["table_2", "clustering", "figure_3"])
    printed = capsys.readouterr().out
    assert "clustering_confusion_quick_vade: the metrics can't be read (division by zero)" in printed
    assert list((tmp_path / "out" / "figures").glob("figure_3_*.png"))


def test_what_was_not_run_takes_nothing_else_along(tmp_path: Path) -> None:
    weak_supervision_metrics.write_block(tmp_path / "metrics")  # Table 1 alone, as of make reproduce
    shown, missing = sections(tmp_path / "metrics", tmp_path)
    [weak] = [section for section in shown if section.key == "weak-supervision"]
    assert "Table 1 on" in str([part.table.title for part in weak.parts if isinstance(part, Shown)])
    assert "weak supervision, random numbers of shared factors: the metrics hold no run with shared=random" in missing
    weak_supervision_metrics.write_block(tmp_path / "metrics", data="unknown", methods=["hgvae"])
    tables = weak_supervision_tables(tmp_path / "metrics")
    assert "unknown" not in tables["figure_2.md"] and "Figure 2 on profile quick, mpi3d_sim" in tables["figure_2.md"]
    weak_supervision_metrics.write_random(tmp_path / "random", "hgvae", 0, {1: [3, 3]})
    shown, missing = sections(tmp_path / "random", tmp_path)
    assert "weak-supervision" in [section.key for section in shown]
    with pytest.raises(ExperimentError, match="disentanglement: the metrics hold no run whose pairs share one number"):
        pages.write_pages(tmp_path / "random", tmp_path / "out", ["figure_11"])
    write_block(tmp_path / "studies", versions=["60"], priors=["uniform"])
    path = tmp_path / "studies" / "clustering_metrics.csv"
    table = pd.read_csv(path)
    table.assign(changes="training.kl_weight=2", run_id=table["run_id"] + "b").to_csv(path, index=False)
    assert list(clustering_tables(tmp_path / "studies")) == ["clustering_studies.md"]
    assert "clustering" in [section.key for section in sections(tmp_path / "studies", tmp_path)[0]]
