"""The HTML report in a real browser: drawn, silent, self-contained, no wider than a phone."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import runs
from twinax.analyse import analyse, recommend
from twinax.report import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="THE REPORT IS NOT CHECKED IN A BROWSER: there is no Chromium here. "
    "Install it with: apt-get install chromium chromium-driver",
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MAKERS = {make.__name__: make for make in runs.MAKERS}
PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, make in MAKERS.items():
        run = make()
        findings = analyse(run)
        (folder / f"{name}.html").write_text(html.render(run, findings, recommend(findings)))
    return folder


def visit(browser, url: str, width: int = DESKTOP, dark: bool = False) -> None:
    """Open a page at a width and wait until its charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    colour = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colour]})
    browser.get(url)
    drawn = "return document.documentElement.dataset.drawn !== undefined"
    WebDriverWait(browser, 30).until(lambda it: it.execute_script(drawn))


def console(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


LIKE_FULL = ("only_torch", "interrupted", "crashed")
"""Reports that have fewer charts of the same kinds."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LIKE_FULL else []) for n in MAKERS]
)
def test_charts_are_drawn_without_a_word_on_the_console(browser, pages: Path, name: str) -> None:
    visit(browser, (pages / f"{name}.html").as_uri())
    plots, drawn = browser.execute_script(
        "return [document.querySelectorAll('.plot').length,"
        " [...document.querySelectorAll('.plot')].filter((p) => p.querySelector('.main-svg')).length]"
    )
    assert drawn == plots > 0
    assert console(browser) == []


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_wider_than_a_phone(browser, pages: Path, name: str) -> None:
    visit(browser, (pages / f"{name}.html").as_uri(), width=PHONE)
    browser.execute_script("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
    assert console(browser) == []


def test_a_scrolling_table_can_be_told_from_an_overflowing_page(browser, pages: Path) -> None:
    """The check above must be able to fail."""
    visit(browser, (pages / "full.html").as_uri(), width=PHONE)
    browser.execute_script("document.querySelector('main').style.width = '600px'")
    assert browser.execute_script("return document.documentElement.scrollWidth") > PHONE


@pytest.fixture(scope="module")
def server(pages: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves the pages on this machine and remembers what was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=pages)) as it:
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{it.server_port}", asked
        it.shutdown()


def test_nothing_but_the_page_is_asked_for(browser, server: tuple[str, list[str]]) -> None:
    address, asked = server
    visit(browser, f"{address}/full.html")
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((it) => it.name)")
    assert [url for url in loaded if not url.startswith(("data:", "blob:"))] == []
    assert asked == ["/full.html"]


def test_dark_mode_reaches_the_charts(browser, pages: Path) -> None:
    colours = {}
    for dark in (False, True):
        visit(browser, (pages / "full.html").as_uri(), dark=dark)
        colours[dark] = browser.execute_script(
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('.xtick text')).fill]"
        )
    assert colours[False][0] != colours[True][0]
    assert colours[False][1] != colours[True][1]


def test_hostile_names_run_nothing_and_link_nowhere(browser, pages: Path) -> None:
    visit(browser, (pages / "hostile.html").as_uri())
    assert browser.title == "<script>alert(1)</script>: PyTorch or JAX?"
    assert (
        browser.execute_script("return document.querySelectorAll('a, img, main script:not([type])').length")
        == 0
    )
    assert "<script>alert(1)</script>" in browser.find_element("id", "answer").text


def test_the_mismatch_is_on_the_first_screen_of_a_phone(browser, pages: Path) -> None:
    visit(browser, (pages / "mismatched.html").as_uri(), width=PHONE)
    found = browser.find_element("css selector", ".verdict")
    assert "layer2.1.bn2" in found.text
    assert found.rect["y"] + found.rect["height"] < 844
