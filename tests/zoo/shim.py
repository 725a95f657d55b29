"""Let torchvision import where its compiled operators do not load.

torchvision's wheel is built for one build of torch. Beside another one, `import torchvision` fails
while it registers shapes for `torchvision::nms`, and timm and transformers fail with it. No
classifier runs these operators, so declaring them is enough. Where the real ones load, this module
changes nothing.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a dropped Library takes its operators with it


def ensure_torchvision() -> None:
    """Make `import torchvision` work; call before importing torchvision, timm or transformers."""
    if not _libraries and not _load_compiled():
        _libraries.append(_declare())
    import torchvision.extension

    if _libraries:
        torchvision.extension._has_ops = lambda: True


def _load_compiled() -> bool:
    """Whether `torchvision::nms` exists, after an attempt to load the wheel's own library."""
    if not hasattr(torch.ops.torchvision, "nms"):
        spec = importlib.util.find_spec("torchvision")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
        for path in sorted(Path(spec.origin).parent.glob("_C*")):
            try:
                torch.ops.load_library(path)
            except OSError:
                continue
    return hasattr(torch.ops.torchvision, "nms")


def _declare() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    library.impl("nms", _nms, "CPU")
    return library


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression over `dets` (N, 4); the kept indices, best score first."""
    area = (dets[:, 2:] - dets[:, :2]).prod(dim=1)
    order = scores.argsort(descending=True)
    kept: list[torch.Tensor] = []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(dets[best, :2], dets[order, :2])
        high = torch.minimum(dets[best, 2:], dets[order, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        order = order[overlap / (area[best] + area[order] - overlap) <= iou_threshold]
    return torch.stack(kept) if kept else order
