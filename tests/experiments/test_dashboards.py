"""Dashboards are written without a login."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wandb_workspaces.workspaces import internal

from experiments.configuration import axes_of, experiments
from experiments.report.dashboards import DASHBOARDS, Dashboard
from experiments.tracking import STEP
from scripts import weights_and_biases

PARAMETERS = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)


pytestmark = pytest.mark.usefixtures("no_account")


def test_every_experiment_is_shown_once_and_grouped_by_what_it_has() -> None:
    assert sorted(name for dashboard in DASHBOARDS for name in dashboard.experiments) == experiments()
    for dashboard in DASHBOARDS:
        known = {axis for name in dashboard.experiments for axis in axes_of(name)}
        assert set(dashboard.group_by) <= known | {"experiment_name", "changes", "profile"}


@PARAMETERS
def test_the_json_is_a_workspace_with_every_chart_in_its_place(dashboard: Dashboard) -> None:
    content = json.loads(dashboard.json("", "mvhg"))
    view = internal.View.model_validate(content)
    assert view.display_name == dashboard.name
    sections = view.spec.section.panel_bank_config.sections
    shown = {section.name: section.panels for section in sections if section.panels}
    assert list(shown) == list(dashboard.sections)
    for title, charts in dashboard.sections.items():
        for panel, chart in zip(shown[title], charts, strict=True):
            assert tuple(panel.config.metrics) == chart.metrics
            assert panel.config.chart_title == chart.title
            if chart.over_steps:
                assert panel.config.x_axis == STEP
    [runs] = content["spec"]["section"]["runSets"]
    assert [group["name"] for group in runs["grouping"]] == [f"{key}.value" for key in dashboard.group_by]
    assert runs["filters"]["filters"][0]["value"] == list(dashboard.experiments)


def test_pushing_needs_a_login_and_an_entity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: W&B has no key: run `wandb login`"):
        weights_and_biases.main(["dashboard", "--output", str(tmp_path), "--push", "--entity", "jane"])
    assert {path.name for path in tmp_path.iterdir()} == {f"{dashboard.name}.json" for dashboard in DASHBOARDS}
    monkeypatch.setattr("experiments.report.dashboards.logged_in", lambda: True)
    with pytest.raises(SystemExit, match="error: whose dashboards"):
        weights_and_biases.main(["dashboard", "--output", str(tmp_path), "--push"])
