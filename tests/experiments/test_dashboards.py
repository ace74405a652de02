"""Dashboards are written without a login, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wandb_workspaces.workspaces import internal

from experiments.common.tracking import STEP
from experiments.dashboards.all import DASHBOARDS
from experiments.dashboards.dashboard import Curves, Dashboard
from experiments.dashboards.workspace import workspace_json
from scripts import dashboard as script

PARAMETERS = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_there_is_one_per_experiment() -> None:
    names = [dashboard.name for dashboard in DASHBOARDS]
    assert names == ["kolmogorov_smirnov", "urn", "weak_supervision", "clustering", "disentanglement"]


@PARAMETERS
def test_the_json_is_a_workspace_with_every_chart_in_its_place(dashboard: Dashboard) -> None:
    content = json.loads(workspace_json(dashboard, "", "mvhg"))
    view = internal.View.model_validate(content)
    assert view.display_name == dashboard.name
    sections = view.spec.section.panel_bank_config.sections
    shown = {section.name: section.panels for section in sections if section.panels}
    assert list(shown) == list(dashboard.sections)
    for title, charts in dashboard.sections.items():
        for panel, chart in zip(shown[title], charts, strict=True):
            assert tuple(panel.config.metrics) == chart.metrics
            assert panel.config.chart_title == chart.title
            if isinstance(chart, Curves):
                assert panel.config.x_axis == STEP
    [runs] = content["spec"]["section"]["runSets"]
    assert [group["name"] for group in runs["grouping"]] == [f"{key}.value" for key in dashboard.group_by]
    assert runs["filters"]["filters"][0]["value"] == list(dashboard.rooms)


def test_the_bytes_are_the_same_twice(tmp_path: Path) -> None:
    for name in ("first", "second"):
        script.main(["--output", str(tmp_path / name)])
    written = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert set(written) == {f"{dashboard.name}.json" for dashboard in DASHBOARDS}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}


def test_pushing_needs_a_login_and_an_entity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: W&B has no key: run `wandb login`"):
        script.main(["--output", str(tmp_path), "--push", "--entity", "jane"])
    monkeypatch.setattr("experiments.dashboards.workspace.logged_in", lambda: True)
    with pytest.raises(SystemExit, match="error: whose dashboards"):
        script.main(["--output", str(tmp_path), "--push"])
