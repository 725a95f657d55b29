"""Every command, through `main`."""

import json
import shlex
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

import autoprune as ap
from autoprune.cli import arguments
from autoprune.cli import main as cli
from autoprune.cli.demo import EPOCHS
from autoprune.passes.pruning.criteria import CRITERIA
from tests.tolerance import ROUNDING_SINGLE

PRUNE = "prune tinynet:pair --flops 0.5 --no-latency"


def test_inspect(run, folder):
    done = run("inspect tinynet:build --input 1x3x8x8 --report all.json")
    assert done.code == 0
    assert done.err == ""
    assert "2 groups" in done.out
    assert "0.weight:0" in done.out
    assert "zero-invariant" in done.out
    assert "graph output" in done.out
    assert len(json.loads((folder / "all.json").read_text())["groups"]) == 2


def test_notices_are_shown(run, monkeypatch):
    def noticing(options):
        warnings.warn("kernels are built anew", ap.errors.Notice, stacklevel=1)
        warnings.warn("torch will change", UserWarning, stacklevel=1)

    monkeypatch.setitem(cli.COMMANDS, "inspect", noticing)
    assert run("inspect tinynet:pair").err == "note: kernels are built anew\n"


def test_html(run, folder):
    assert run("inspect tinynet:pair --html net.html --report net.json").code == 0
    page = (folder / "net.html").read_text()
    groups = json.loads((folder / "net.json").read_text())["groups"]
    assert "<title>net" in page
    assert all(f'data-value="{row["name"]}"' in page for row in groups)
    done = run(f"{PRUNE} -o small.safetensors --html small.html")
    assert done.code == 0
    assert "small.html" in done.out
    assert "units stay" in (folder / "small.html").read_text()


def test_all(run):
    few, everything = run("inspect tinynet:deep").out, run("inspect tinynet:deep --all").out
    assert "48.weight:0" not in few
    assert "48.weight:0" in everything


def test_prune_writes_every_file(run, folder, onnx_output):
    done = run(
        f"{PRUNE} -o small.onnx -o small.pt2 --output small.safetensors -o plan.json "
        "--plan same.json --report report.json"
    )
    assert done.code == 0
    assert done.err == ""
    for name in ("small.onnx", "small.pt2", "small.safetensors", "plan.json", "report.json"):
        assert name in done.out
        assert (folder / name).stat().st_size > 0
    assert (folder / "plan.json").read_text() == (folder / "same.json").read_text()

    from tinynet import build

    small = ap.load(build(), folder / "small.safetensors").eval()
    expected = small(torch.zeros(2, 3, 8, 8)).detach().numpy()
    found = onnx_output(folder / "small.onnx", (2, 3, 8, 8))
    assert abs(found - expected).max() < 1e-5
    costs = json.loads((folder / "report.json").read_text())
    assert costs["after"]["flops"] / costs["before"]["flops"] == pytest.approx(0.5, abs=0.01)
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


def test_pt2_goes_in_and_out(run, folder):
    assert run(f"{PRUNE} -o half.pt2").code == 0
    done = run("prune half.pt2 --channels 0.5 --no-latency -o quarter.pt2")
    assert done.code == 0, done.err
    module = torch.export.load(folder / "quarter.pt2").module()
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    half = torch.export.load(folder / "half.pt2").module()
    assert sum(p.numel() for p in module.parameters()) < 0.7 * sum(
        p.numel() for p in half.parameters()
    )


def test_a_budget_of_memory(run, folder):
    done = run("prune tinynet:pair --memory 0.75 --multiple-of 1 --no-latency -o small.onnx")
    assert (done.code, done.err) == (0, "")
    assert (folder / "small.onnx").stat().st_size > 0


def test_a_latency_that_is_no_fraction(run):
    assert run("prune tinynet:pair --latency 2 -o small.onnx").code == 2


def test_latency_is_in_the_table(run):
    done = run("prune tinynet:pair --channels 0.5 -o small.json --threads 2")
    assert done.code == 0
    assert "ONNX Runtime, 2 threads" in done.out


def test_options_reach_prune(run, folder):
    line = "prune tinynet:pair --channels 0.3 --ignore 7 --multiple-of 4 --min-units 11 --global"
    more = "--approximate --strict --criterion random --seed 3 --no-latency -o p.json"
    assert run(f"{line} {more}").code == 0
    groups = ap.Plan.load(folder / "p.json").groups
    assert list(groups) == ["0.weight:0"]
    assert len(groups["0.weight:0"].kept) == 12
    assert groups["0.weight:0"].kept != tuple(range(12))


def test_the_same_units_everywhere_if_asked(run, folder):
    line = "prune tinynet:experts --channels 0.5 --no-latency -o p.json"
    assert run(line).code == 0
    assert ap.Plan.load(folder / "p.json").groups["up:2"].outer == "up:0"
    assert run(f"{line} --no-per-outer").code == 0
    assert ap.Plan.load(folder / "p.json").groups["up:2"].outer == ""


@pytest.mark.parametrize("flag", ["uniform", "keep-config"])
def test_layers_alike(run, folder, flag):
    """One of fifty layers keeps its size, so all of its role do."""
    line = "prune tinynet:deep --channels 0.5 --ignore 3 --no-latency -o p.json"
    assert run(line).code == 0
    assert len(ap.Plan.load(folder / "p.json").groups) == 47
    done = run(f"{line} --{flag}")
    assert done.code == 1
    assert f"{flag.replace('-', '_')}=True, and 3.weight:0 keeps its size" in done.err


def test_sizes_and_channels_by_name(run, folder):
    assert run("prune tinynet:pair --sizes 0=10 --sizes 5.weight:0=20 -o p.json").code == 0
    sizes = {n: len(c.kept) for n, c in ap.Plan.load(folder / "p.json").groups.items()}
    assert sizes == {"0.weight:0": 10, "5.weight:0": 20}
    line = "prune tinynet:pair --no-latency -o p.json"
    assert run(f"{line} --channels 0=0.75 --channels *=0.5").code == 0
    sizes = {n: len(c.kept) for n, c in ap.Plan.load(folder / "p.json").groups.items()}
    assert sizes == {"0.weight:0": 24, "5.weight:0": 24}
    assert "several values" in run(f"{line} --channels 0.5 --channels 0=0.75").err


def test_only_and_what_is_dead(run, folder):
    line = "--no-latency -o p.json"
    assert run(f"prune tinynet:pair --channels 0.5 --only 5 {line}").code == 0
    assert list(ap.Plan.load(folder / "p.json").groups) == ["5.weight:0"]
    done = run(f"prune tinynet:pair --dead {line}")
    assert done.code == 0
    assert "Nothing is dead" in done.out
    assert "only='5'" in run("inspect tinynet:pair --only 5").out


def test_outputs_that_matter(run, folder):
    done = run("prune tinynet:TwoHeads --input 2x8 --channels 0.5 --outputs 0 -o p.json")
    assert done.code == 0, done.err
    assert list(ap.Plan.load(folder / "p.json").groups) == ["body.weight:0"]
    assert "graph output" in run("prune tinynet:TwoHeads --input 2x8 --channels 0.5 -o p.json").err


def test_the_nearest_budget_and_how_to_insist(run):
    line = "prune tinynet:TwoHeads --input 2x8 --params 0.52 --outputs 0 --no-latency -o p.json"
    assert "nearest reachable" in run(line).out
    assert "cannot be met within 1 %" in run(f"{line} --exact-budget").err


def test_named_integer_inputs(run, folder):
    line = "prune tinynet:Words --params 0.8 --no-latency -o w.onnx"
    done = run(f"{line} --input ids=1x7:int64:50 --input weight=1x7")
    assert done.code == 0, done.err


def test_dynamic_batch(run, folder, onnx_output):
    assert run(f"{PRUNE} --dynamic-batch -o any.onnx").code == 0
    assert onnx_output(folder / "any.onnx", (7, 3, 8, 8)).shape == (7, 5)
    done = run(f"{PRUNE} --dynamic-batch --input 1x3x8x8 -o any.onnx")
    assert done.code == 1
    assert "batch of two" in done.err


@pytest.mark.parametrize(
    "line",
    [
        "",
        "compress x",
        "prune tinynet:build -o a.onnx",
        "prune tinynet:build --flops 0.5",
        "prune tinynet:build --flops 0.5 --params 0.5 -o a.onnx",
        "prune tinynet:build --flops 1.5 -o a.onnx",
        "prune tinynet:build --flops nan -o a.onnx",
        "prune tinynet:build --flops half -o a.onnx",
        "prune tinynet:build --flops 0.5 --multiple-of 0 -o a.onnx",
        "prune tinynet:build --flops 0.5 --criterion best -o a.onnx",
    ],
)
def test_wrong_usage(run, line):
    done = run(line)
    assert done.code == 2
    assert done.err.startswith("usage: autoprune")
    assert len(done.err.splitlines()) == 2


def test_percent_are_no_fractions(run):
    assert "give 0.5" in run("prune tinynet:build --flops 50 -o a.onnx").err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inspect tinynet:build", "without example inputs"),
        ("inspect tinynet:build --input 1x4x8x8", "does not run on the example inputs"),
        ("inspect tinynet:build --input 3xx", "is no shape"),
        ("inspect tinynet:Words --input ids=1x2:int64 --input 1x2", "some are not"),
        ("inspect tinynet:Words --input ids=1x2:int64 --input ids=1x2", "given twice"),
        ("inspect tinynet:missing --input 1", "it has build, pair"),
        ("inspect nowhere:build --input 1", "no module 'nowhere'"),
        ("inspect tinynet:broken --input 1", "ValueError: no weights here"),
        ("inspect tinynet:number --input 1", "gives a int, not a torch.nn.Module"),
        ("inspect tinynet.py:build --input 1", "write tinynet:build"),
        ("inspect tinynet --input 1", "is no model"),
        ("inspect net.pth --input 1", "pickles"),
        ("compile net.pt2 -o a.apz", "takes .onnx files"),
        ("inspect net.onnx", "cannot be read"),
        ("inspect none.pt2", "cannot be read"),
        ("inspect tinynet:pair --report no/such.json", "folder does not exist"),
        ("inspect tinynet:pair --html no/such.html", "folder does not exist"),
        (f"{PRUNE} -o a.tflite", "cannot save as .tflite"),
        (f"{PRUNE} -o a", "a file without suffix"),
        (f"{PRUNE} -o no/such.onnx", "folder does not exist"),
        (f"{PRUNE} -o a.onnx --plan no/such.json", "folder does not exist"),
        (f"{PRUNE} -o a.onnx --ignore nothing.*", "matches no module"),
        ("prune tinynet:pair --flops 0.00001 -o a.onnx", "cannot be reached"),
    ],
)
def test_errors_are_one_message(run, folder, line, message):
    done = run(line)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.out == ""
    assert not (folder / "a.onnx").exists()


def test_an_output_that_is_a_folder(run, folder):
    (folder / "taken.onnx").mkdir()
    done = run(f"{PRUNE} -o taken.onnx")
    assert done.code == 1
    assert "it is a folder" in done.err


def test_debug_shows_the_traceback(run):
    done = run("inspect tinynet:broken --input 1 --debug")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "no weights here" in done.err


def test_a_mistake_of_ours_is_named_as_such(run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("index out of range\nsecond line")

    monkeypatch.setattr(ap, "inspect", fail)
    done = run("inspect tinynet:pair")
    assert done.code == 1
    assert "RuntimeError: index out of range\n" in done.err
    assert "mistake in autoprune" in done.err


def test_a_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)

    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(ap, "prune", fail)
    assert "pip install 'autoprune[onnx]'" in run(f"{PRUNE} -o a.onnx").err


def test_interrupt(run, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ap, "inspect", stop)
    done = run("inspect tinynet:pair")
    assert (done.code, done.err) == (130, "interrupted\n")


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = run(f"{command} --help")
    assert done.code == 0
    assert "usage: autoprune" in done.out
    assert max(map(len, done.out.splitlines())) < 100  # the runtime's sentences are the longest
    if command in arguments.EXAMPLES:
        assert max(map(len, done.out.splitlines())) <= 80
        assert done.out.count(f"\n  autoprune {command}") == len(arguments.EXAMPLES[command])


@pytest.mark.parametrize(
    ("command", "line"), [(c, line) for c, lines in arguments.EXAMPLES.items() for line in lines]
)
def test_examples_of_help_are_understood(command, line):
    assert arguments.parser().parse_args([command, *shlex.split(line)]).command == command


def test_criteria_are_those_that_are_known(run, folder):
    assert ", ".join(CRITERIA) in " ".join(run("prune --help").out.split())
    for named in ("l1", "tinynet:latest"):
        assert run(f"{PRUNE} --criterion {named} --plan {named[:2]}.json -o a.onnx").code == 0
    kept = ap.Plan.load("ti.json").groups["0.weight:0"].kept
    assert list(kept) == list(range(32 - len(kept), 32))
    assert "has no 'earliest'" in run(f"{PRUNE} --criterion tinynet:earliest -o a.onnx").err


def test_the_epochs_of_the_demo(run):
    assert f"(default: {EPOCHS})" in run("demo --help").out


def test_version_without_torch():
    code = (
        "import sys; from autoprune.cli.main import main; main(['--version']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"autoprune {ap.__version__}\n"


@pytest.mark.parametrize("module", ["autoprune", "autoprune.cli"])
def test_python_m(module, folder):
    line = [sys.executable, "-m", module, "inspect", "tinynet:pair"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "2 groups" in done.stdout
    assert done.stderr == ""


def test_sparsify_writes_every_file(run, folder, onnx_output):
    command = "sparsify tinynet:pair --format 2:4 --ignore 7"
    done = run(f"{command} -o sparse.onnx -o sparse.pt2 -o sparse.safetensors")
    assert done.code == 0
    assert "50.0%" in done.out
    assert "autoprune compile sparse.onnx -o sparse.apz" in done.out

    from tinynet import build

    sparse = ap.sparsify(build(), format="2:4", ignore="7").model.eval()
    expected = sparse(torch.zeros(2, 3, 8, 8))
    loaded = build()
    loaded.load_state_dict(load_file(folder / "sparse.safetensors"))
    loaded = loaded.eval()(torch.zeros(2, 3, 8, 8)).detach()
    for found in (onnx_output(folder / "sparse.onnx", (2, 3, 8, 8)), loaded):
        np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=ROUNDING_SINGLE)


def test_sparsify_an_onnx_file(run, folder):
    assert run(f"{PRUNE} -o small.onnx").code == 0
    (name,) = (value.name for value in onnx.load("small.onnx").graph.input)
    np.savez(folder / "x.npz", **{name: np.random.rand(2, 3, 8, 8).astype("float32")})
    command = "sparsify small.onnx --format csr --sparsity 0.75 -o sparse.onnx"
    done = run(f"{command} --calibration x.npz")
    assert done.code == 0
    assert "75.0% of these weights are zero" in done.out
    assert "output error" in done.out
    assert run("sparsify small.onnx -o sparse.pt2").code == 1
    assert "use one of .onnx" in run("sparsify small.onnx -o sparse.pt2").err
    assert "fewer than 4096" in run("sparsify small.onnx -o sparse.onnx").err
    assert "no.npz" in run("sparsify small.onnx --calibration no.npz -o sparse.onnx").err
