"""What the page and the dashboards say is logged is what runs log."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from experiments.report.dashboards import DASHBOARDS
from experiments.settings import build
from experiments.tracking import STEP
from tests.experiments.conftest import MakeOnce
from tests.experiments.helpers import CHECKOUT, cell, launch
from tests.experiments.wandb_files import history, summary, the_file

# Without manifold and guided epochs, which log nothing: they take most of a smoke run.
FAST = ("recipe=vade",)
ROWS: dict[str, tuple[str, ...]] = {
    "kolmogorov_smirnov series=weights sampler=sample": (),
    "kolmogorov_smirnov series=draws sampler=sample": (),
    "kolmogorov_smirnov series=sizes sampler=sample": (),
    "urn estimator=exact": ("experiment.problem.num_datasets=10",),
    "weak_supervision method=hgvae shared=3": (),
    "weak_supervision method=posterior_hgvae shared=3": (),
    "clustering prior=hypergeometric": FAST,
    "clustering_control prior=hypergeometric": (),
}
SECTIONS = {
    "Kolmogorov-Smirnov tests": "kolmogorov_smirnov",
    "Urn": "urn",
    "Weak supervision": "weak_supervision",
    "Clustering": "clustering",
    "Disentanglement": "disentanglement",
}


@pytest.fixture(scope="session")
def logged(make_once: MakeOnce) -> dict[str, set[str]]:
    """Names in histories and summaries of smoke runs, by experiment."""
    text = (make_once("logged", log) / "names.json").read_text()
    return {room: set(names) for room, names in json.loads(text).items()}


def log(results: Path) -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for row, overrides in ROWS.items():
        run = launch(row, results, "logger=offline", *overrides)
        file = the_file(results, run.path.name)
        found = {name for record in history(file) for name in record["item"]} | set(summary(file)["summary"])
        room = row.split()[0].removesuffix("_control")
        names[room] |= {name for name in found if not name.startswith("_") and name != STEP}
    # Running these needs TensorFlow; committed scores have the names.
    scores = pd.read_csv(CHECKOUT / "results" / "metrics" / "disentanglement_metrics.csv")["score"]
    names["disentanglement"] = {f"scores/{score}" for score in scores}
    (results / "names.json").write_text(json.dumps({room: sorted(found) for room, found in names.items()}))


def documented() -> dict[str, list[str]]:
    """Names of the page's tables, by experiment."""
    names: dict[str, list[str]] = defaultdict(list)
    text = (CHECKOUT / "docs" / "wandb.md").read_text()
    for section in text.partition("## What is logged")[2].split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        for line in body.splitlines():
            if line.startswith("| `"):
                names[SECTIONS[title]] += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return names


def pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"<\w+>", "[^/]+", re.escape(name)))


def test_the_page_names_every_logged_metric_once_and_no_other(logged: dict[str, set[str]]) -> None:
    page = documented()
    assert set(page) == set(logged)
    for room, names in page.items():
        patterns = {name: pattern(name) for name in names}
        assert len(patterns) == len(names), room
        for metric in logged[room]:
            assert any(one.fullmatch(metric) for one in patterns.values()), f"{room}: {metric} is not explained"
        for name, one in patterns.items():
            assert any(one.fullmatch(metric) for metric in logged[room]), f"{room}: {name} is never logged"


def test_the_dashboards_show_what_is_logged(logged: dict[str, set[str]]) -> None:
    for dashboard in DASHBOARDS:
        shown = {name for charts in dashboard.sections.values() for chart in charts for name in chart.metrics}
        assert shown and shown <= logged[dashboard.name], dashboard.name


def test_every_headline_metric_is_logged(logged: dict[str, set[str]]) -> None:
    for row, overrides in ROWS.items():
        experiment = build(cell(row, "profile=smoke", *overrides).plain["experiment"])
        room = row.split()[0].removesuffix("_control")
        assert set(getattr(experiment, "headline_metrics", {})) <= logged[room], row
