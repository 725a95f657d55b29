"""The HTML page: complete, harmless, small, the same every time, and drawn by a real browser."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from autoprune.report import PinnedRow, Report, UnknownOperator
from tests.report.networks import perceptron, report

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{7*7}}"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = [], [], {}
        self.open = []
        self.feed(text)
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in {"meta", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        place = self.open[-1] if self.open else ""
        self.text.setdefault(place, []).append(data.strip())

    @property
    def words(self) -> str:
        shown = (
            t for tag, texts in self.text.items() if tag not in {"script", "style"} for t in texts
        )
        return " ".join(shown)

    @property
    def data(self):
        return json.loads(self.text["script"][0])


@pytest.fixture(scope="module")
def inspected() -> Report:
    return report(perceptron(4))


@pytest.fixture(scope="module")
def hostile() -> Report:
    found = report(perceptron(3, name=HOSTILE, source=f"/x/{HOSTILE}.py:1: {HOSTILE}"))
    return dataclasses.replace(
        found,
        notes=(HOSTILE,),
        pinned=(*found.pinned, PinnedRow(HOSTILE, 3, (HOSTILE,), HOSTILE, HOSTILE, HOSTILE)),
        unknown_operators=(UnknownOperator(HOSTILE, 1, HOSTILE),),
    )


def test_every_group_and_every_reason_is_there(inspected):
    page = Page(inspected.to_html("net"))
    assert page.tags.count("tbody") == len(inspected.groups) == 3
    for row in inspected.groups:
        assert page.words.count(row.name) >= 1
        assert all(place in page.text["li"] for place in row.where)
        assert row.guarantee in page.words
    for row in inspected.pinned:
        assert row.name in page.text["td"]
        assert row.reason in page.words
    assert "net" in page.text["h1"]


def test_the_graph_is_there(inspected):
    data = Page(inspected.to_html()).data
    assert [node["name"] for node in data["nodes"]] == [
        node.name for node in inspected.subject.typed.graph.nodes
    ]
    root = data["clusters"][data["root"]]
    # Item kinds: the input, the cluster of all blocks, the output.
    assert [kind for kind, _ in root["items"]] == [4, 1, 5]
    group = [g["name"] for g in data["groups"]].index("blocks.1.fc.weight:0")
    weight = next(v for v in data["values"] if v[0] == "blocks.2.fc.weight")
    assert data["axes"][weight[2][1]] == [[16, group]]


def test_a_pinned_leaf_says_why_in_the_graph(inspected):
    data = Page(inspected.to_html()).data
    x = next(v for v in data["values"] if v[0] == "x")
    [[size, reference]] = data["axes"][x[2][1]]
    assert size == 8
    assert data["pins"][-1 - reference][0] == "graph input `x`"


def test_kept_units_are_bits():
    data = Page(report(perceptron(3), keep=5).to_html()).data
    assert [group["kept"] for group in data["groups"]] == [["f800"], ["f800"]]
    assert [group["stay"] for group in data["groups"]] == [5, 5]


def test_a_pruned_report_shows_before_and_after():
    words = Page(report(perceptron(3), keep=5).to_html()).words
    assert "5 of 16 units stay (31.2 %)" in words
    assert "Kept units" not in Page(report(perceptron(3)).to_html()).words


def test_text_of_the_model_is_only_text(hostile):
    text = hostile.to_html(HOSTILE)
    page = Page(text)
    assert "img" not in page.tags
    assert page.tags.count("script") == 2
    assert page.tags.count("style") == 1
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert page.text["h1"] == [HOSTILE]
    assert HOSTILE in page.text["td"]
    assert HOSTILE in page.text["p"]
    assert page.data["nodes"][0]["name"] == f"{HOSTILE}_0"


def test_nothing_is_loaded_from_anywhere(inspected):
    text = inspected.to_html()
    page = Page(text)
    assert not {"link", "iframe", "img", "object", "base"} & set(page.tags)
    assert not any(name in {"src", "href"} for _, name, _ in page.attributes)
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}


def test_the_policy_allows_just_the_own_script_and_style(inspected):
    page = Page(inspected.to_html())
    policy = next(value for tag, name, value in page.attributes if "default-src" in (value or ""))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2


def test_pages_of_equal_reports_are_equal(tmp_path):
    code = (
        "import sys; from tests.report.networks import perceptron, report\n"
        "sys.stdout.write(report(perceptron(4)).to_html('net'))\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    pages = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(pages) == 1


def test_two_thousand_nodes_stay_small():
    long_line = "site-packages/a_package/models/a_module.py:123: " + "x = self.layer(x) " * 4
    found = report(perceptron(1000, source=long_line))
    assert len(found.subject.typed.graph.nodes) == 2000
    assert len(found.to_html().encode()) < 3_000_000


def test_a_report_read_from_json_is_a_page_without_the_graph(inspected):
    page = Page(Report.from_json(inspected.to_json()).to_html())
    assert page.tags.count("script") == 1
    assert "svg" not in page.tags[page.tags.index("main") :]
    assert page.tags.count("tbody") == 3


def test_save_writes_by_suffix(inspected, tmp_path):
    inspected.save(tmp_path / "net.html")
    inspected.save(tmp_path / "net.json")
    assert Page((tmp_path / "net.html").read_text()).text["h1"] == ["net"]
    assert Report.from_json((tmp_path / "net.json").read_text()) == inspected


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_it(hostile, tmp_path):
    hostile.save(tmp_path / "net.html")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,4000",
         "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
         str(tmp_path / "net.html")],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    page = Page(done.stdout)
    assert "img" not in page.tags
    scene = done.stdout[done.stdout.index('<g id="scene"') :]
    assert scene.count('class="box') == 2 + 2 * 3  # the ends, and two calls for each layer
    assert [name for name in page.text["tspan"] if name == "linear"] == ["linear"] * 3
