"""CONTRIBUTING.md, README.md and CHANGELOG.md say what is so."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

import autoprune

ROOT = Path(__file__).parents[2]
SCRATCH = Path(__file__).with_name("scratch")
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\[([^\]]*)\]\(([^)#]+)[^)]*\)", PAGE)
NOT_IN_THE_TABLE = {"autoprune/passes", "autoprune/runtime"}
"""Links to the folders at the top."""


@pytest.mark.parametrize("path", sorted({path for _, path in LINKS}))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def named_examples():
    """Names in code that a link is about: its text, or what stands before `in` it."""
    for text, path in LINKS:
        if path.endswith(".py") and (name := re.fullmatch(r"`(?:ap\.)?(\w+)`", text)):
            yield name[1], path
    place = r"(?:in|of)\s+(?:the test's\s+)?"
    yield from re.findall(rf"`(\w+)`\s+{place}\[[^\]]*\]\(([^)]+\.py)\)", PAGE)


@pytest.mark.parametrize(("name", "path"), sorted(set(named_examples())))
def test_what_links_are_about_is_there(name, path):
    code = (ROOT / path).read_text()
    assert re.search(rf"^\s*(def|class) {name}\b|^{name}\b.*=|^{name}\(", code, re.M)


def test_there_are_names_to_look_for():
    assert len(set(named_examples())) >= 20


def test_recipes_take_as_many_files_as_the_page_says():
    said = dict(re.findall(r"^- \*\*an? (.+?)\*\* \((\d+ \w+)\)", PAGE, re.M))
    files = {f.name: len(list(f.rglob("*.py"))) for f in SCRATCH.iterdir() if f.is_dir()}
    count = {name: f"{n} file{'s' * (n > 1)}" for name, n in files.items()}
    assert said == {
        "operator of torch": count["operator"],
        "operator of ONNX": count["onnx_operator"],
        "criterion": count["criterion"],
        "learner": count["learner"],
        "mask method": count["mask_method"],
        "sparse format with its kernel": count["format"],
        "target": "1 entry",
        "framework": "1 folder",
        "budget": count["budget"],
    }
    entries = (SCRATCH / "target/sse.py").read_text().count("TARGETS.add(")
    assert (entries, files["target"]) == (1, 1)


def test_the_page_is_one_page():
    assert len(PAGE.splitlines()) <= 130
    assert max(map(len, PAGE.splitlines())) <= 100


def packages(folder):
    return {
        f"{folder.name}/{child.name}"
        for child in folder.iterdir()
        if (child / "__init__.py").exists()
    }


def test_the_table_of_folders_is_true_and_complete():
    table = README.partition("| folder | holds |")[2]
    rows = re.findall(r"^\| (`.+?) \|", table, re.M)
    folders = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    named = {name for name in folders if (ROOT / name).is_dir()}
    assert named == folders
    expected = packages(ROOT / "autoprune") | packages(ROOT / "passes")
    expected |= {"runtime", "tests", "benchmarks", "docs", "examples"}
    assert named == expected - NOT_IN_THE_TABLE


def test_rooms_are_folders():
    rooms = PAGE.partition("## The path")[0]
    folders = {*re.findall(r"`((?:autoprune|passes)/\w+)`", rooms)}
    expected = (packages(ROOT / "autoprune") | packages(ROOT / "passes")) - NOT_IN_THE_TABLE
    assert folders >= expected
    assert all((ROOT / name).is_dir() for name in folders)


def test_every_folder_of_tests_says_what_it_proves():
    table = PAGE.partition("## Checking")[2].partition("## How")[0]
    folders = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("tests/*/test_*.py")}
    assert {*re.findall(r"`(tests/\w+)`", table)} == folders


def test_the_changelog_has_this_version():
    assert autoprune.__version__ in (ROOT / "CHANGELOG.md").read_text()


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_name_is_there(page):
    text = page.read_text()
    linked = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert [path for path in linked if not (page.parent / path).exists()] == []
    named = re.findall(r"`((?:autoprune|passes|runtime|tests|benchmarks)/[\w/.]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    dotted = set(re.findall(r"`(autoprune(?:\.\w+)+)(?:\(.*?\))?`", text))
    assert [name for name in dotted - NO_MODULES if not _is_known(name)] == []
    imports = re.findall(r"^from (autoprune(?:\.\w+)*) import ([\w, ]+)$", text, re.M)
    missing = [f"{a}.{b}" for a, names in imports for b in names.split(", ")]
    assert [name for name in missing if not _is_known(name)] == []


NO_MODULES = {"autoprune.plan", "autoprune.structure"}
"""Keys in the metadata of ONNX models."""


def _is_known(name):
    try:
        resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_page_is_found(page):
    assert "CONTRIBUTING.md)" in (ROOT / page).read_text()
