"""The report page of the committed results in a browser: what it shows, on which screens, and what it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.chromium import Chromium, find_chromium

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium, chromium-browser or google-chrome on the path")
SOURCES = "document.querySelectorAll('.claims .source')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def opened(browser: Chromium, committed_report: Path) -> Chromium:
    browser.look(1280)
    browser.open(committed_report)
    return browser


def test_nothing_goes_wrong_and_nothing_is_asked_for(opened: Chromium) -> None:
    decoded = "Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode().then(() => i.naturalWidth))))"
    widths = opened.evaluate(decoded)
    assert len(widths) >= 14
    assert all(width > 0 for width in widths)
    assert opened.problems() == []
    requests = opened.requests()
    assert len(requests) >= 1
    assert all(address.startswith(("file:", "data:")) for address in requests)
    paint = opened.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1")
    print(f"first contentful paint after {paint:.0f} ms")


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(browser: Chromium, committed_report: Path, width: int) -> None:
    browser.look(width)
    browser.open(committed_report)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
    if width == 360:
        assert browser.evaluate(f"{wide}.length") > 5  # they scroll in their own boxes
    assert browser.evaluate(f"{wide}.every(box => getComputedStyle(box).overflowX === 'auto')")


def test_dark_follows_the_system_and_the_choice_is_kept(browser: Chromium, committed_report: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    browser.look(1280)
    browser.open(committed_report)
    light = browser.evaluate(background)
    browser.look(1280, dark=True)
    dark = browser.evaluate(background)
    assert dark != light
    browser.evaluate("document.getElementById('theme').click()")  # light, whatever the system says
    assert browser.evaluate(background) == light
    browser.open(committed_report)
    assert browser.evaluate(background) == light
    browser.evaluate("localStorage.clear()")


def test_the_panel_opens_and_closes_by_keyboard(opened: Chromium) -> None:
    opened.evaluate(f"{SOURCES}[0].focus()")
    for kind in ("keyDown", "keyUp"):
        opened.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    panel = "document.getElementById('panel')"
    assert opened.evaluate(f"!{panel}.hidden && document.activeElement === {panel}")
    shown = opened.evaluate(f"{panel}.textContent")
    assert "Source 1" in shown
    assert "kolmogorov_smirnov_metrics.csv" in shown
    for kind in ("keyDown", "keyUp"):
        opened.call("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
    assert opened.evaluate(f"{panel}.hidden && document.activeElement === {SOURCES}[0]")


def test_the_panel_opens_by_touch_on_a_row_and_lies_on_the_screen(browser: Chromium, committed_report: Path) -> None:
    browser.look(360)
    browser.open(committed_report)
    row = "document.querySelector('#urn tbody tr')"
    browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    browser.evaluate(f"{row}.scrollIntoView({{block: 'center'}})")
    left, top = browser.evaluate(f"(b => [b.left, b.top])({row}.querySelector('td').getBoundingClientRect())")
    point = {"x": left + 40, "y": top + 12}
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    opened = "!document.getElementById('panel').hidden"
    assert browser.evaluate(f"new Promise(done => setTimeout(() => done({opened}), 400))")
    left, right, bottom = browser.evaluate(
        "(b => [b.left, b.right, b.bottom])(document.getElementById('panel').getBoundingClientRect())"
    )
    assert left >= 0
    assert right <= 360
    assert bottom <= 801
    assert "estimator=exact" in browser.evaluate("document.getElementById('panel').textContent")


def test_claims_are_filtered(opened: Chromium) -> None:
    visible = "[...document.querySelectorAll('.claim')].filter(row => row.checkVisibility())"
    count = opened.evaluate("Number(document.querySelector('.count.not-reproduced strong').textContent)")
    everything = opened.evaluate(f"{visible}.length")
    opened.evaluate("document.querySelector('.count.not-reproduced').click()")
    shown = opened.evaluate(f"{visible}.map(row => [row.dataset.verdict, row.dataset.whose])")
    assert shown == [["not reproduced", "paper"]] * count
    room = "document.querySelector('.filters').room"
    opened.evaluate(f"{room}.value = 'urn', {room}.dispatchEvent(new Event('change', {{bubbles: true}}))")
    assert 0 < opened.evaluate(f"{visible}.length") < count
    opened.evaluate("document.querySelector('.filters').reset()")
    assert opened.evaluate(f"new Promise(done => setTimeout(() => done({visible}.length), 50))") == everything


def test_no_table_is_cut_off_in_print(browser: Chromium, committed_report: Path) -> None:
    millimetre = 96 / 25.4
    for selector, width in ((".table.wide .scroll", 297 - 26), (".table:not(.wide) .scroll", 210 - 26)):
        browser.look(round(width * millimetre))
        browser.open(committed_report)
        browser.call("Emulation.setEmulatedMedia", media="print")
        boxes = f"[...document.querySelectorAll('{selector}')]"
        assert browser.evaluate(f"{boxes}.length") > 3
        cut = f"{boxes}.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.ariaLabel)"
        assert browser.evaluate(cut) == []
        assert browser.evaluate("getComputedStyle(document.querySelector('#sources')).display") == "block"
        browser.call("Emulation.setEmulatedMedia", media="")
