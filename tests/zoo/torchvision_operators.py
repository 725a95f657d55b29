"""Let torchvision import where its compiled operators do not load.

torchvision's wheel is built for one build of torch. Beside another one, `import torchvision` fails
while it registers shapes for `torchvision::nms`, and timm and transformers fail with it. No
classifier runs these operators, so declaring them is enough. Where the real ones load, nothing
changes.

Run as a script, this file installs itself into the environment that runs it: Python then imports
it at start, and it waits for torchvision.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []  # a dropped Library takes its operators with it


class Finder(importlib.abc.MetaPathFinder):
    """Hands torchvision to a loader that declares what is missing first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        declared = _declare_missing(Path(module.__file__ or "").parent)
        self._loader.exec_module(module)
        if declared:
            sys.modules["torchvision.extension"]._has_ops = lambda: True


def _declare_missing(package: Path) -> bool:
    """Declare the operators unless the wheel's own library brings them."""
    import torch

    for path in sorted(package.glob("_C*")):
        try:
            torch.ops.load_library(path)
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)
    return True


def _nms(dets: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy non-maximum suppression over `dets` (N, 4); the kept indices, best score first."""
    import torch

    area = (dets[:, 2:] - dets[:, :2]).prod(dim=1)
    order = scores.argsort(descending=True)
    kept = []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(dets[best, :2], dets[order, :2])
        high = torch.minimum(dets[best, 2:], dets[order, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        order = order[overlap / (area[best] + area[order] - overlap) <= iou_threshold]
    return torch.stack(kept) if kept else order


if __name__ == "__main__":
    site = Path(sysconfig.get_path("purelib"))
    shutil.copyfile(__file__, site / "torchvision_operators.py")
    (site / "torchvision_operators.pth").write_text("import torchvision_operators\n")
elif __name__ == "torchvision_operators":
    sys.meta_path.insert(0, Finder())
