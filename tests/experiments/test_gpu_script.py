"""`make gpu`, on a CPU in little: every part runs, a part that fails stops no other, an interrupted call goes on."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from experiments.gpu import library, parts, runs
from experiments.gpu.parts import PARTS
from scripts import gpu

SMALL = ["--accelerator", "cpu", "--smoke", "--minutes", "60"]


def test_every_part_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], one_thread: None
) -> None:
    """In this process; the next test starts those that `make gpu` has for them."""
    monkeypatch.setattr(gpu, "_run_apart", parts.run_part)
    gpu.main([*SMALL, "--output", str(tmp_path)])
    page = (tmp_path / "gpu.md").read_text()
    assert "Not complete" not in page and "FAIL" not in capfd.readouterr().out
    for name in PARTS:
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert len(table) and table["passed"].all(), table
    assert "interrupted at its first checkpoint" in pd.read_csv(tmp_path / "cells.csv")["figure"][0]
    rates = pd.read_csv(tmp_path / "rates.csv")[-2:]
    assert rates["work"].tolist() == [f"clustering, hypergeometric, {number} at once" for number in (1, 2)]
    assert rates["figure"].str.match(r"[\d.e+]+ steps a second in all, \d+\.\d hours for the paper's runs").all()
    assert pd.read_csv(tmp_path / "runs.csv")["figure"].tolist() == ["finished"]


def test_a_part_that_fails_or_takes_too_long_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The parts' own processes see the true ones: `facts` gets no time, and the others are complete.
    for name in ("library", "cells", "rates"):
        pd.DataFrame([{"work": name, "passed": True, "figure": "done"}]).to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.setitem(PARTS, "facts", (parts.facts, 0.05))
    (tmp_path / "runs").write_text("where a folder should be")
    gpu.main([*SMALL, "--output", str(tmp_path)])
    page = (tmp_path / "gpu.md").read_text()
    assert "Not complete: stopped after 0 s" in page
    assert "Not complete: ended with status 1" in page
    assert page.count("done") == 3
    assert re.findall("--- (.*), at most", capfd.readouterr().out) == ["facts", "runs"]
    started: list[list[str]] = []
    complete = SimpleNamespace(wait=lambda timeout: 0, poll=lambda: 0)
    monkeypatch.setattr(gpu.subprocess, "Popen", lambda command, **_: started.append(command) or complete)
    for name in ("facts", "runs"):
        pd.DataFrame([{"work": name, "passed": True, "figure": "done"}]).to_csv(tmp_path / f"{name}.csv", index=False)
    gpu.main([*SMALL, "--output", str(tmp_path)])
    assert [command[command.index("--part") + 1] for command in started] == ["runs"]  # which go on


def test_an_interrupted_call_writes_the_page_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def run_apart(name: str, plan: parts.Plan) -> None:
        begun.append(name)
        if name == "cells" and len(begun) == 3:
            pd.DataFrame([{"work": "a cell", "passed": True, "figure": "half done"}]).to_csv(
                tmp_path / "cells.partial.csv"
            )
            raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "_run_apart", run_apart)
    with pytest.raises(SystemExit) as ended:
        gpu.main([*SMALL, "--output", str(tmp_path)])
    assert ended.value.code == 130
    page = (tmp_path / "gpu.md").read_text()
    assert "Not complete: interrupted; the same command goes on." in page and "half done" in page
    assert page.count("Not complete: not begun.") == 2
    gpu.main([*SMALL, "--output", str(tmp_path)])
    assert begun == ["facts", "library", "cells", *PARTS]


def test_long_runs_that_fail_together_are_tried_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run_cell(cell: tuple[str, ...], settings: list[str], log: Path, seconds: float) -> int:
        asked.append(settings[-1:])
        log.write_text(f"error: 1 of 3 cells failed:\n  a cell: why\n{runs.AGAIN}\n")
        return 0 if "runs_at_once=1" in settings else 1

    monkeypatch.setattr(runs, "run_cell", run_cell)
    [line] = runs.long_cells("cpu", tmp_path, "smoke", 60)
    assert (line["passed"], line["figure"]) == (True, "failed: a cell: why; one by one: finished")
    assert asked == [["runs_at_once=4"], ["runs_at_once=1"]]


def test_a_wrong_value_and_a_wrong_law_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    values = library._values
    monkeypatch.setattr(library, "CHECKED", library.CHECKED[1:2])
    assert all(line["passed"] for line in library.value_checks(device))
    monkeypatch.setattr(library, "_values", lambda *of: [value + (of[2] == torch.float32) for value in values(*of)])
    assert [line["passed"] for line in library.value_checks(device)] == [True, False]
    assert all(line["passed"] for line in library.draw_checks(device, 20_000))
    counts, uniform = torch.tensor([0, 1, 2, 3]).repeat(500), torch.full((4,), 0.25, dtype=torch.float64)
    assert library._p_value(counts, uniform) > 0.9
    assert library._p_value(counts.clamp(min=1), uniform) < library.SMALLEST_P


def test_a_run_is_ended_when_its_time_is_over(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert runs.run_cell(("experiment=nothing",), [], log, 60) == 1
    assert "nothing" in runs.last_line(log)
    assert runs.run_cell(("experiment=nothing",), [], log, 0) is None


def test_what_is_no_measurement_keeps_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its parts would be there already when a GPU is measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "_run_apart", lambda name, plan: "left out")
    gpu.main(SMALL)
    assert [path.parent.as_posix() for path in Path().rglob("gpu.md")] == ["results/local/smoke/gpu"]


def test_without_a_gpu_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch finds no GPU here; --accelerator cpu --smoke"):
        gpu.main(["--output", str(tmp_path)])
