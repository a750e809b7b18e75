"""The HTML report as text: self-contained, escaped, the same for the same run."""

import json
import re
import subprocess
import sys

import pytest

import runs
from twinax.analyse import analyse, recommend
from twinax.records import Run
from twinax.report import charts, html


def rendered(run: Run) -> str:
    findings = analyse(run)
    return html.render(run, findings, recommend(findings))


def own(page: str) -> str:
    """The page without plotly's own code."""
    return re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)


def figures(page: str) -> dict[str, dict]:
    found = re.findall(
        r'<script type="application/json" id="data-([\w-]+)">(.*?)</script>', page, flags=re.DOTALL
    )
    return {name: json.loads(text) for name, text in found}


def test_the_same_run_gives_the_same_bytes() -> None:
    assert rendered(runs.full()) == rendered(runs.full())


def test_a_run_that_was_saved_gives_the_same_bytes(tmp_path) -> None:
    run = runs.full()
    run.save(tmp_path)
    assert rendered(Run.load(tmp_path)) == rendered(run)


def test_plotly_is_in_it_once_and_nothing_is_loaded() -> None:
    page = rendered(runs.full())
    assert page.count("plotly.js v") == 1
    assert re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"(?!data:,)", own(page)) == []
    assert "@import" not in own(page) and "url(" not in own(page)


def test_every_chart_of_a_whole_run_is_there() -> None:
    assert list(figures(rendered(runs.full()))) == [
        "layers",
        "gradients",
        "steps-sgd",
        "steps-adamw",
        "trajectory",
        "ratios",
        "seconds",
        "phases",
        "memory",
        "calibration-matmul",
        "calibration-convolution",
        "calibration-bandwidth",
        "work",
        "shapes",
        "workload",
    ]
    assert "training" in figures(rendered(runs.trained()))


def test_a_mismatch_comes_first_and_shows_no_ratio() -> None:
    page = own(rendered(runs.mismatched()))
    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections[:2] == ["answer", "parity"]
    assert "Where they differ" in page
    assert "ratios" not in figures(page) and "seconds" not in figures(page)
    marked = [trace for trace in figures(page)["layers"]["data"] if trace["name"] == "differs"]
    assert "layer2.1.bn2" in marked[0]["text"][0]


def test_the_bound_is_drawn_where_it_is() -> None:
    figure = figures(rendered(runs.full()))["layers"]
    assert figure["layout"]["shapes"][0]["y0"] == 1e-9
    assert figure["layout"]["annotations"][0]["y"] == pytest.approx(-9)


def test_an_error_that_is_no_number_is_drawn_above_all_others() -> None:
    found = runs.parity_records()
    found[-1].measurements["layers"][7]["error"] = None
    figure = figures(rendered(runs.run(found)))["layers"]
    good, bad = figure["data"]
    assert bad["y"] == [1e-8]
    assert "not comparable" in bad["text"][0]
    assert len(good["y"]) == len(runs.resnet_names()) - 1


def test_hostile_names_stay_text() -> None:
    page = own(rendered(runs.hostile()))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert '<a href="https://example.org"' not in page
    assert "</pre>\n</pre>" not in page.replace(" ", "")
    assert len(re.findall(r"</script>", page)) == len(re.findall(r"<script", page))


def test_hostile_names_are_escaped_for_plotly_too() -> None:
    texts = [
        t for f in figures(rendered(runs.hostile())).values() for d in f["data"] for t in d.get("text", [])
    ]
    assert any("&lt;script&gt;" in text for text in texts)
    assert not any(re.search(r"<(?!br>)", text) for text in texts)


def test_json_cannot_end_its_element() -> None:
    text = html.embedded(json.dumps({"name": "</script><!-- &"}))
    assert "<" not in text and "&" not in text
    assert json.loads(text) == {"name": "</script><!-- &"}


def test_long_names_are_shortened_in_charts_and_breakable_in_text() -> None:
    long = ".".join(["part"] * 40)
    assert len(charts.label(long)) <= charts.LONGEST
    assert "<wbr>" in html.breakable(long)
    assert html.breakable("0.43 and layer1.0.conv1") == "0.43 and layer1.0.conv1"


def test_every_cell_and_every_asymmetry_is_shown() -> None:
    page = rendered(runs.crashed()).replace("<wbr>", "")
    assert all(cell.id in page for cell in runs.crashed().planned)
    assert "image layout" in page
    assert "differs" in page


def test_importing_the_report_loads_neither_plotly_nor_jinja() -> None:
    heavy = ("plotly", "jinja2", "pygments", "torch", "jax")
    code = f"import sys, twinax.report; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
