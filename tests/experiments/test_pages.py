"""Pages from committed files: the same bytes again, nothing drawn twice, the README's summary."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from experiments.common.errors import ExperimentError
from experiments.pages.digest import Stamp, digest_of
from experiments.verdicts.judge import measure
from experiments.verdicts.pages import END, START, replace_between_markers, summary
from scripts import pages, verdicts
from tests.experiments.clustering_metrics import write_block
from tests.experiments.helpers import CHECKOUT

RESULTS = CHECKOUT / "results"
OF_ITS_OWN = {"mpi3d_sim_contact_sheet.png", "mpi3d_sim_contact_sheet.pdf"}  # made from images, not from metrics


def pinned(package: str) -> str:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))


def test_the_committed_pages_come_from_the_committed_metrics(tmp_path: Path) -> None:
    pages.main(["--metrics", str(RESULTS / "metrics"), "--output", str(tmp_path)])
    parts = ["tables"] + (["figures"] if version("matplotlib") == pinned("matplotlib") else [])
    for part in parts:
        committed = {path.name: path.read_bytes() for path in (RESULTS / part).iterdir() if path.name not in OF_ITS_OWN}
        made = {path.name: path.read_bytes() for path in (tmp_path / part).iterdir()}
        assert sorted(made) == sorted(committed)
        assert [name for name in made if made[name] != committed[name]] == []


def test_the_readme_shows_the_committed_results() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    measured, _ = measure(RESULTS / "metrics")
    text = summary(measured).markdown().strip()
    assert readme == replace_between_markers(CHECKOUT / "README.md", text)
    assert text in readme


@pytest.mark.parametrize("text", ["", f"{START}\n", f"{END}\n{START}\n", f"{START}\n{START}\n{END}\n"])
def test_a_file_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    write_block(tmp_path, versions=["60"])
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(SystemExit, match=r"error: .*page.md needs one line <!-- results:start -->"):
        verdicts.main(["--metrics", str(tmp_path), "--output", str(tmp_path / "out"), "--readme", str(path)])
    assert path.read_text() == text


def test_what_stands_around_the_markers_stays(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    assert replace_between_markers(path, "new") == f"before\n{START}\nnew\n{END}\nafter\n"


def test_nothing_is_drawn_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, output = tmp_path / "metrics", tmp_path / "local"
    write_block(metrics, versions=["60"], priors=["uniform", "hypergeometric"])
    arguments = ["--metrics", str(metrics), "--output", str(output)]
    drawn: list[Path] = []

    def write_all(metrics: Path, output: Path, report: bool) -> list[str]:
        assert report
        drawn.append(output)
        (output / "tables").mkdir(exist_ok=True)
        (output / "tables" / "table.md").write_text("a table")
        return ["figures_urn: no runs"]

    monkeypatch.setattr(pages, "write_all", write_all)
    pages.main(arguments)
    assert "not made: figures_urn: no runs" in capsys.readouterr().out
    pages.main(arguments)
    assert len(drawn) == 1
    (output / "tables" / "table.md").write_text("somebody wrote into it")
    pages.main(arguments)
    assert len(drawn) == 2
    path = metrics / "clustering_metrics.csv"
    path.write_text(path.read_text().replace("0.", "0.1", 1))
    pages.main(arguments)
    assert len(drawn) == 3
    (output / ".pages.json").write_text("{")
    pages.main(arguments)
    assert len(drawn) == 4


def test_the_digest_sees_metrics_and_benchmarks(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    digests = [digest_of(metrics)]
    (metrics / "urn_metrics.csv").write_text("a\n1\n")
    digests.append(digest_of(metrics))
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "one.csv").write_text("b\n2\n")
    digests.append(digest_of(metrics))
    assert len(set(digests)) == 3
    assert digest_of(metrics) == digests[-1]
    assert not Stamp(tmp_path / "none.json", digests[-1]).is_current()


def test_a_folder_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .* holds no metrics: run the experiments"):
        pages.main(["--metrics", str(tmp_path), "--output", str(tmp_path / "out")])


def test_a_broken_file_of_one_room_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_block(tmp_path, versions=["60"])
    (tmp_path / "urn_metrics.csv").write_bytes(b"row,profile\n\xff\xfe,\x00\n")
    verdicts.main(["--metrics", str(tmp_path), "--output", str(tmp_path)])
    printed, written = capsys.readouterr().out, (tmp_path / "verdicts.md").read_text()
    assert "left out: urn: " in printed
    assert "**Left out** of these numbers" in written
    assert "urn_metrics.csv can't be read" in written
    (tmp_path / "clustering_metrics.csv").write_text("row,profile,seed\na,b,1\n")
    with pytest.raises(ExperimentError, match=r"clustering_metrics.csv has no column run_id"):
        measure(tmp_path)
