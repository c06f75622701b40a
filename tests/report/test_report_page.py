"""The page: what it says, that it is whole in one file, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report import build_report


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_results_same_bytes_and_nothing_stale(report: Path, results: ExperimentResults, tmp_path: Path):
    stale = tmp_path / "overlays" / "99999" / "gff.webp"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    (tmp_path / "mine.txt").write_text("kept")
    build_report(results, tmp_path)
    again = contents(tmp_path)
    assert again.pop("mine.txt") == b"kept"
    assert again == contents(report)


def test_page_is_whole_and_small(report: Path):
    text = (report / "index.html").read_text(encoding="utf-8")
    assert len(text) < 15e6
    loaded = re.findall(r'\b(?:src|href)="([^"]*)"', text)
    outside = [u for u in loaded if not u.startswith(("data:", "#"))]
    # What is left are links to the report's own files and to where weights come from: followed, never loaded.
    assert not re.findall(r'<(?:script|img|link|iframe)[^>]*\b(?:src|href)="(?!data:)', text)
    for link in outside:
        assert link.startswith("https://example.org/") or (report / link).is_file(), link


@pytest.mark.parametrize(
    "words",
    ["DEMO", "DDFM", "no weights at weights/ddfm", "91 %", "yolov5nu", "64e6d25", "anchor-free", "highest mAP50:95"],
)
def test_page_says(report: Path, words: str):
    assert words in (report / "index.html").read_text(encoding="utf-8")


def test_page_escapes_what_others_wrote(results: ExperimentResults, tmp_path: Path):
    hostile = "<script>alert(1)</script>"
    bad = results.methods[-1].model_copy(update={"label": hostile})
    changed = results.model_copy(update={"methods": (*results.methods[:-1], bad), "title": hostile})
    text = build_report(changed, tmp_path).read_text(encoding="utf-8")
    assert hostile not in text
    assert "&lt;script&gt;alert(1)" in text
    assert all(hostile not in p.read_text(encoding="utf-8") for p in (tmp_path / "figures").glob("*.svg"))


def test_figures_are_valid_and_stamped(report: Path):
    figures = sorted(p.name for p in (report / "figures").iterdir())
    assert figures == ["map50.svg", "precision_recall.svg", "training.svg"]
    for name in figures:
        root = ElementTree.parse(report / "figures" / name).getroot()
        assert root.tag.endswith("svg")
        assert "DEMO" in "".join(root.itertext())


def test_real_results_carry_no_stamp(results: ExperimentResults, tmp_path: Path):
    real = results.dataset.model_copy(update={"synthetic": False, "name": "m3fd"})
    text = build_report(results.model_copy(update={"dataset": real}), tmp_path).read_text(encoding="utf-8")
    assert "DEMO" not in text
    assert "73.8" in text
    assert "DEMO" not in (tmp_path / "table_vi.md").read_text(encoding="utf-8")


def test_a_report_of_nothing_but_failures(results: ExperimentResults, tmp_path: Path):
    failed = tuple(r for r in results.runs if r.method == "ddfm")
    alone = results.model_copy(update={"runs": failed, "methods": results.methods[-1:]})
    assert "No method finished" in build_report(alone, tmp_path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


def visit(browser: Any, report: Path, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get((report / "index.html").as_uri())


@pytest.mark.parametrize("width", [1280, 390])
def test_no_sideways_scrolling_and_no_request(browser: Any, report: Path, width: int):
    browser.get_log("performance")
    visit(browser, report, width)
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    # The log begins with the browser's own start page.
    urls = [r["request"]["url"] for r in requests if r["documentURL"].startswith("file:")]
    assert urls
    assert all(url.startswith(("file:", "data:")) for url in urls)
    assert browser.get_log("browser") == []
    decoded = "return [...document.images].filter(i => i.src).map(i => (i.loading='eager', i.decode()))"
    done = browser.execute_async_script(
        f"const d = arguments[0]; Promise.all((() => {{{decoded}}})()).then(a => d(a.length))"
    )
    assert done == len(list((report / "overlays").glob("*/*.webp")))


def test_a_click_on_a_head_sorts(browser: Any, report: Path):
    visit(browser, report, 1280)
    head = browser.find_element("css selector", "table.sortable th:nth-child(2)")
    names = "return [...document.querySelectorAll('table.sortable tbody th')].map(e => e.textContent)"
    assert browser.execute_script(names)[0] == "Infrared"
    button = head.find_element("css selector", "button")
    browser.execute_script("arguments[0].click()", button)
    assert head.get_attribute("aria-sort") == "descending"
    assert browser.execute_script(names) == ["GFF†", "Maximum", "Mean", "Visible", "Infrared", "DDFM"]
    browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script(names) == ["Infrared", "Visible", "Mean", "Maximum", "GFF†", "DDFM"]


def test_pictures_open_large_and_escape_closes(browser: Any, report: Path):
    from selenium.webdriver import ActionChains, Keys

    visit(browser, report, 1280)
    opened = "return document.querySelector('dialog').open"
    text = "return document.querySelector('[data-text]').textContent"
    assert not browser.execute_script(opened)
    panel = browser.find_element("css selector", ".panel")
    browser.execute_script("arguments[0].focus()", panel)
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.execute_script(opened)
    assert "Ground truth" in browser.execute_script(text)
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    assert "Infrared" in browser.execute_script(text)
    first = browser.execute_script(text)[:5]
    ActionChains(browser).send_keys(Keys.ARROW_DOWN).perform()
    assert browser.execute_script(text)[:5] != first
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not browser.execute_script(opened)
    focused = "return document.activeElement.classList.contains('panel')"
    assert browser.execute_script(focused)
