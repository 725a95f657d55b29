"""ONNX models that exist: inside packages, and exported from the zoo of torch models."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autoprune as ap


@dataclass(frozen=True)
class OnnxFile:
    """A file inside an installed package.

    Attributes:
        name: of the row.
        package: that holds the file; it is not imported.
        path: inside the package.
        inputs: what it runs on, where made-up inputs do not do.
        kept: share of the parameters that half of every exact group leaves, at most.
        quick: whether it belongs in the quick test run.
    """

    name: str
    package: str
    path: str
    kept: float
    inputs: Any = None
    quick: bool = False

    def locate(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        assert spec is not None, f"{self.package} is not installed"
        assert spec.origin is not None
        return Path(spec.origin).parent / self.path


def _speech(samples: int) -> dict[str, Any]:
    """Half a second of noise for the voice detector, at 16 kHz."""
    return {
        "input": np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32) / 10,
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }


def _light(name: str, kept: float, *, quick: bool = False) -> OnnxFile:
    path = f"backend/test/data/light/light_{name}.onnx"
    return OnnxFile(f"light_{name}", "onnx", path, kept, quick=quick)


_OCR = "rapidocr_onnxruntime"

FILES = (
    OnnxFile("yolov8n", "nudenet", "320n.onnx", 0.26, quick=True),
    OnnxFile("ppocr_detect", _OCR, "models/ch_PP-OCRv4_det_infer.onnx", 0.28),
    OnnxFile("ppocr_recognize", _OCR, "models/ch_PP-OCRv4_rec_infer.onnx", 0.37),
    OnnxFile("ppocr_direction", _OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", 0.32,
             quick=True),
    OnnxFile("magika", "magika", "models/standard_v3_3/model.onnx", 0.3, quick=True),
    OnnxFile("silero_vad", "silero_vad", "data/silero_vad.onnx", 1.0, _speech(576)),
    OnnxFile("silero_vad_16k_op15", "silero_vad", "data/silero_vad_16k_op15.onnx", 0.67),
    OnnxFile("silero_vad_half", "silero_vad", "data/silero_vad_half.onnx", 0.67),
    OnnxFile("silero_vad_16k_sequence", "silero_vad", "data/silero_vad_16k_sequence.onnx", 0.55,
             quick=True),
    OnnxFile("silero_vad_openvino_16k", "silero_vad", "data/silero_vad_openvino_16k.onnx", 0.55),
    OnnxFile("silero_vad_op18_ifless", "silero_vad", "data/silero_vad_op18_ifless.onnx", 1.0,
             _speech(576)),
    _light("bvlc_alexnet", 0.2),
    _light("densenet121", 0.3),
    _light("inception_v1", 0.3),
    _light("inception_v2", 0.3),
    _light("resnet50", 0.3),
    _light("shufflenet", 0.3, quick=True),
    _light("squeezenet", 0.4, quick=True),
    _light("vgg19", 0.3),
    _light("zfnet512", 0.3),
)  # fmt: skip

EXPORTED = [
    "tv_resnet18",
    "tv_mobilenet_v3_small",
    "tv_shufflenet_v2_x1_0",
    "tv_convnext_tiny",
    "tv_swin_t",
    "tv_vit_b_16",
    "tv_densenet121",
    "tv_efficientnet_b0",
    "tv_regnet_x_400mf",
    "timm_vit_tiny_patch16_224",
    "timm_mobilevit_xxs",
    "timm_poolformer_s12",
    "timm_pvt_v2_b0",
    "timm_efficientvit_b0",
    "timm_edgenext_xx_small",
    "timm_mixer_s32_224",
    "timm_ghostnet_100",
    "timm_res2net50_26w_4s",
    "timm_xcit_nano_12_p16_224",
    "timm_levit_128s",
    "hf_bert",
    "hf_distilbert",
    "hf_gpt2",
    "hf_llama",
    "hf_qwen3",
    "hf_mistral",
    "hf_t5",
    "hf_vit",
    "hf_segformer",
    "hf_whisper",
    "hf_gemma2",
    "diffusers_unet",
    "diffusers_autoencoder_kl",
    "smp_unet",
    "yolo_yolov8n",
    "monai_unet",
]
"""Rows of the zoo of torch models that are exported, pruned as ONNX and compared."""

QUICK_EXPORTS = ("small_transformer", "small_gru_stacked", "small_time_unet")


@dataclass(frozen=True)
class Examination:
    """One row of the table.

    Attributes:
        name: of the model.
        opset: version of the standard operators.
        nodes: operators in the graph.
        groups: how many of each guarantee.
        params: share of parameters kept.
        flops: share of FLOPs kept.
        error: largest relative difference between the cut and the zeroed model.
        seconds: processor time of the analysis.
        pinned_by: operators that pin because they have no rule.
    """

    name: str
    opset: int
    nodes: int
    groups: dict[str, int]
    params: float
    flops: float
    error: float
    seconds: float
    pinned_by: tuple[str, ...]


def examine(name: str, path: Path, inputs: Any = None, seed: int = 0) -> Examination:
    """Prune half of every exact group at random; `prune` compares with the zeroed model."""
    result = ap.prune(path, inputs, channels=0.5, criterion="random", multiple_of=1, seed=seed)
    again = ap.inspect(result.model, inputs)
    report = result.report
    assert (again.before.params, again.before.flops) == (report.after.params, report.after.flops)
    groups: dict[str, int] = {}
    for group in report.groups:
        groups[group.guarantee] = groups.get(group.guarantee, 0) + 1
    return Examination(
        name=name,
        opset=max(o.version for o in result.model.opset_import if o.domain in ("", "ai.onnx")),
        nodes=len(result.model.graph.node),
        groups=groups,
        params=_share(report.after.params, report.before.params),
        flops=_share(report.after.flops, report.before.flops),
        error=report.error,
        seconds=report.analysis_seconds,
        pinned_by=tuple(u.name for u in report.unknown_operators),
    )


def _share(after: int, before: int) -> float:
    return after / before if before else 1.0


def export(name: str, folder: Path) -> Path:
    """Export a row of the zoo of torch models."""
    import torch

    from tests.zoo.models import ZOO

    row = next(row for row in ZOO if row.name == name)
    torch.manual_seed(0)
    model, inputs = row.build().eval(), row.inputs()
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (tuple(inputs), {})
    path = folder / f"{name}.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, args, str(path), kwargs=kwargs, dynamo=True, external_data=False, verbose=False
        )
    return path
