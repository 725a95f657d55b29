"""Reading what a processor can do."""

import platform
import shutil
import subprocess

import pytest

from autoprune.runtime.cpu import arm64_features, this_cpu, x86_features


def test_x86_features_are_those_of_all_cores():
    text = "processor\t: 0\nflags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n"
    assert x86_features(text) == {"fpu", "avx2"}
    assert x86_features("") == frozenset()


def test_arm64_features_are_bits():
    cortex_a72 = 0x8FF
    neoverse_n1 = 0x1011_FFFF
    assert {"asimd", "neon", "crc32"} <= arm64_features(cortex_a72, 0)
    assert "asimddp" not in arm64_features(cortex_a72, 0)
    assert "asimddp" in arm64_features(neoverse_n1, 0)
    assert "i8mm" not in arm64_features(neoverse_n1, 0)
    assert "i8mm" in arm64_features(neoverse_n1, 1 << 13)
    assert arm64_features(0, 0) == frozenset()


@pytest.mark.skipif(platform.system() != "Linux", reason="features are only known on Linux")
def test_this_processor():
    cpu = this_cpu()
    assert cpu.system == "linux"
    assert cpu.machine in ("x86-64", "arm64")
    assert cpu.features & {"sse2", "asimd"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks an x86 compiler")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("feature", ["avx2", "fma", "avx512f", "avx512vl", "avx512_vnni"])
def test_the_compiler_sees_the_same(feature, tmp_path):
    source = tmp_path / "probe.c"
    name = feature.replace("_", "")
    source.write_text(f'int main(void) {{ return !__builtin_cpu_supports("{name}"); }}')
    subprocess.run(["gcc", str(source), "-o", str(tmp_path / "probe")], check=True)
    supported = subprocess.run([str(tmp_path / "probe")], check=False).returncode == 0
    assert (feature in this_cpu().features) == supported
