"""What is installed: only `autoprune`, or on a device only `autoprune_runtime`."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

import autoprune
import autoprune.runtime

ROOT = Path(__file__).parents[2]
SOURCES = ("autoprune", "passes", "runtime", "pyproject.toml", "README.md", "LICENSE")


def declared_packages(pyproject: Path) -> list[str]:
    return tomllib.loads(pyproject.read_text())["tool"]["setuptools"]["packages"]


def packages_below(folder: Path, name: str) -> set[str]:
    # Unlike rglob, iterdir looks through the symlinks.
    found = {name} if (folder / "__init__.py").exists() else set()
    for child in folder.iterdir():
        if child.is_dir():
            found |= packages_below(child, f"{name}.{child.name}")
    return found


def modules_below(folder: Path, name: str) -> set[str]:
    """The wheel paths of the Python files of a package in the tree."""
    found = set()
    for child in folder.iterdir():
        if child.is_dir():
            found |= modules_below(child, f"{name}/{child.name}")
        elif child.suffix == ".py":
            found.add(f"{name}/{child.name}")
    return found


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    # setuptools leaves build/ beside its input and would pack stale files found there.
    tree = tmp_path_factory.mktemp("tree")
    skip = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info")
    for source in map(ROOT.joinpath, SOURCES):
        if source.is_dir():
            shutil.copytree(source, tree / source.name, symlinks=True, ignore=skip)
        else:
            shutil.copy(source, tree)

    def wheel(folder: str) -> Path:
        out = tmp_path_factory.mktemp("wheel")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out)]
        subprocess.run([*pip, *options, str(tree / folder)], check=True)
        [path] = out.glob("*.whl")
        return path

    return wheel


def payload(wheel: Path) -> set[str]:
    """The files of a wheel outside its metadata folder."""
    names = {PurePosixPath(n) for n in ZipFile(wheel).namelist()}
    return {str(n) for n in names if not n.parts[0].endswith(".dist-info")}


@pytest.mark.parametrize(
    ("pyproject", "folder", "name"),
    [
        ("pyproject.toml", "autoprune", "autoprune"),
        ("runtime/pyproject.toml", "runtime", "autoprune_runtime"),
    ],
)
def test_declared_packages_are_the_tree(pyproject, folder, name):
    declared = declared_packages(ROOT / pyproject)
    assert declared == sorted(set(declared))
    assert set(declared) == packages_below(ROOT / folder, name)


def test_wheel_holds_autoprune_only(build):
    files = payload(build("."))
    assert {name.split("/")[0] for name in files} == {"autoprune"}
    assert {n for n in files if n.endswith(".py")} == modules_below(ROOT / "autoprune", "autoprune")
    assert {"autoprune/py.typed", "autoprune/passes/__init__.py"} <= files
    assert "autoprune/runtime/__init__.py" in files
    folder = ROOT / "autoprune/report/html/assets"
    assert {str(asset.relative_to(ROOT)) for asset in folder.iterdir()} <= files
    assert "autoprune/runtime/pyproject.toml" not in files


def test_runtime_wheel_imports_alone(build, tmp_path):
    wheel = build("runtime")
    files = payload(wheel)
    assert {name.split("/")[0] for name in files} == {"autoprune_runtime"}
    expected = modules_below(ROOT / "runtime", "autoprune_runtime")
    assert {n for n in files if n.endswith(".py")} == expected

    ZipFile(wheel).extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import autoprune_runtime\n"
        "assert not {'autoprune', 'torch', 'tvm'} & set(sys.modules)\n"
        "print(autoprune_runtime.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    version = wheel.name.split("-")[1]
    assert done.stdout.strip() == version


def test_both_distributions_have_one_version():
    assert autoprune.__version__ == autoprune.runtime.__version__
