"""The model zoo: every network the framework is tested on, each a row of data.

    from tests.zoo.models import ZOO, get
    model, inputs = get("tv_resnet18").build(), get("tv_resnet18").inputs()

Names start with where the network comes from: `tv_` torchvision, `hf_` transformers, `smp_`
segmentation-models-pytorch, `yolo_` ultralytics, `pyg_` torch-geometric, `small_` our own.
"""

from tests.zoo.diffusers_models import DIFFUSERS
from tests.zoo.huggingface_signal import SIGNAL
from tests.zoo.huggingface_text import TEXT
from tests.zoo.huggingface_vision import VISION, VISION_LANGUAGE
from tests.zoo.monai_models import MONAI
from tests.zoo.other_models import OTHER
from tests.zoo.pyg_models import PYG
from tests.zoo.row import ZooModel
from tests.zoo.small import SMALL
from tests.zoo.smp_models import SMP
from tests.zoo.timm_models import TIMM
from tests.zoo.torchvision_models import TORCHVISION
from tests.zoo.ultralytics_models import ULTRALYTICS

__all__ = ["SOURCES", "ZOO", "ZooModel", "get"]

SOURCES: dict[str, tuple[ZooModel, ...]] = {
    "our own": SMALL,
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "transformers: text": TEXT,
    "transformers: images": VISION,
    "transformers: images and text": VISION_LANGUAGE,
    "transformers: speech, audio and time series": SIGNAL,
    "diffusers": DIFFUSERS,
    "segmentation-models-pytorch": SMP,
    "monai": MONAI,
    "ultralytics": ULTRALYTICS,
    "torch-geometric": PYG,
    "facenet-pytorch, efficientnet-lite-pytorch": OTHER,
}

ZOO: tuple[ZooModel, ...] = tuple(model for source in SOURCES.values() for model in source)

_BY_NAME = {model.name: model for model in ZOO}
if len(_BY_NAME) != len(ZOO):
    raise ValueError("two zoo models share a name")


def get(name: str) -> ZooModel:
    """The model called `name`; raises KeyError naming the known ones."""
    if name not in _BY_NAME:
        raise KeyError(f"no zoo model {name!r}; known: {', '.join(sorted(_BY_NAME))}")
    return _BY_NAME[name]
