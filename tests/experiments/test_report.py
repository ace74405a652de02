"""The report page, read as a browser's parser would, without a browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from experiments.claims.rules import Claim
from experiments.report.charts import BOTTOM, HEIGHT, TOP, Chart, Point, Series
from experiments.results import read_metrics
from scripts import pages
from tests.experiments.conftest import METRICS
from tests.experiments.helpers import CHECKOUT

LARGEST = 6_000_000  # bytes


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.rows: list[list[str]] = []  # the links of every row of every table's body, or of a claim
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self._in_body = self._in_row = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            assert found["id"] not in self.ids, f"{found['id']} is there twice"
            self.ids.add(str(found["id"]))
        if tag in ("thead", "tbody"):
            self._in_body = tag == "tbody"
        if tag == "tr" and self._in_body and "room" not in (found.get("class") or "").split():
            self.rows.append([])
            self._in_row = True
        if tag == "a" and found.get("class") == "source" and self._in_row:
            self.rows[-1].append(str(found["href"]))
        if tag == "img":
            self.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._in_row = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def write(output: Path, metrics: Path) -> str:
    pages.main(["--metrics", str(metrics), "--report", str(output)])
    return output.read_text(encoding="utf-8")


@pytest.fixture
def committed(committed_report: Path) -> str:
    return committed_report.read_text(encoding="utf-8")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """The urn alone, with one of its three figures."""
    for name, files in {"metrics": ["urn_metrics.csv"], "figures": ["figure_7.png"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            shutil.copy(CHECKOUT / "results" / name / file, tmp_path / name)
    yield tmp_path


def small_page(folder: Path) -> str:
    return write(folder / "report.html", folder / "metrics")


def test_every_row_says_where_it_comes_from(committed: str, committed_claims: list[Claim]) -> None:
    page, claims = Page(committed), committed_claims
    assert len(page.rows) > len(claims) + 150
    for links in page.rows[len(claims) :]:
        assert len(links) == 1
    # A claim without a run has no source; everything else has one, on the page.
    without = sum(claim.provenance is None for claim in claims)
    assert sum(not links for links in page.rows) == without
    targets = {link.removeprefix("#") for links in page.rows for link in links}
    assert targets <= page.ids
    assert len(targets) > 100
    sources = committed.partition('<ol class="sources">')[2].split("<li ")[1:]
    assert len({source.partition(">")[2] for source in sources}) == len(sources)  # equal ones share a number


def test_the_sources_hold_the_runs_of_the_metrics(committed: str) -> None:
    words = "".join(Page(committed).words)
    for room in ("urn", "clustering", "weak_supervision", "kolmogorov_smirnov", "disentanglement"):
        runs = set(read_metrics(METRICS, f"{room}_metrics", changes=True)["run_id"])
        assert [run for run in sorted(runs) if f" {run}" not in words] == []


def test_every_claim_is_on_the_page(committed: str, committed_claims: list[Claim]) -> None:
    words = re.sub(r"\s+", " ", "".join(Page(committed).words))
    for claim in committed_claims:
        measured = claim.measured.replace("k-hat", "k\u0302").replace("^2", "²")
        assert measured in words
        assert claim.reason in words


def test_every_image_is_inside_the_page(committed: str) -> None:
    images = Page(committed).images
    assert len(images) >= 14
    for image in images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (int(str(image["width"])), int(str(image["height"])))
            assert picture.convert("L").getextrema() != (255, 255)
        assert image["alt"]


def test_the_page_loads_nothing_and_is_small(committed: str) -> None:
    assert len(committed.encode()) < LARGEST
    without_images = re.sub(r"data:image/webp;base64,[\w+/=]+", "", committed)
    assert not re.findall(r"url\(|@import|https?://|fetch\(|XMLHttpRequest", without_images)
    assert re.findall(r"<link[^>]*>", without_images) == ['<link rel="icon" href="data:,">']
    assert not re.findall(r"<[^>]* (?:src|srcset|poster|background|action)=\"(?!data:|\")", without_images)
    assert "default-src 'none'" in committed


def test_the_same_results_give_the_same_bytes(small: Path) -> None:
    assert small_page(small) == small_page(small)


def test_what_is_not_there_is_named(small: Path) -> None:
    words = "".join(Page(small_page(small)).words)
    assert "Recovering the weights of an urn" in words
    missing = words.partition("Not in these results")[2].rpartition("Not in these results")[2]
    for name in ("Kolmogorov-Smirnov tests:", "weak supervision:", "clustering:", "gradients:", "figure_8:"):
        assert name in missing
    assert "figure_7:" not in missing


def test_a_smoke_page_says_so_loudly(small: Path) -> None:
    banner = "smoke: these numbers mean nothing"
    assert banner not in small_page(small)
    path = small / "metrics" / "urn_metrics.csv"
    pd.read_csv(path).assign(profile="smoke").to_csv(path, index=False)
    assert banner in small_page(small)


def test_runs_that_were_left_out_are_shown(small: Path) -> None:
    assert 'id="left-out"' not in small_page(small)
    (small / "metrics" / "left_out.csv").write_text(
        'run,reason\nurn estimator=exact seed 3,"damaged: <file>, run it again"\n'
    )
    page = small_page(small)
    assert "damaged: &lt;file&gt;, run it again" in page
    assert 'id="left-out"' in page


def test_bad_input_is_one_line(tmp_path: Path, small: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .* holds no metrics: run the experiments"):
        write(tmp_path / "report.html", tmp_path / "none")
    (small / "figures" / "figure_7.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"error: .*figure_7.png can't be read as an image"):
        small_page(small)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_chart_has_larger_values_higher_and_its_marks_inside(logarithmic: bool) -> None:
    points = [Point.at(x, y, "") for x, y in ((1, 0.01), (2, 0.1), (3, 1.0))]
    chart = Chart("key", "", "", "", [Series("one", points)], [(1, "1"), (3, "3")], logarithmic)
    low, middle, high = (chart.y(point.y) for point in points)
    assert HEIGHT - BOTTOM >= low > middle > high >= TOP
    assert ((low - middle) == pytest.approx(middle - high, abs=0.2)) is logarithmic
    assert chart.x(1) < chart.x(2) < chart.x(3)
    ticks = chart.y_ticks()
    assert len(ticks) >= 2
    assert all(TOP <= chart.y(value) <= HEIGHT - BOTTOM for value, _ in ticks)
