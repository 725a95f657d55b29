"""The model zoo: every network the framework is tested on, each a row of data.

    from tests.zoo.models import ZOO, get
    model, inputs = get("tv_resnet18").build(), get("tv_resnet18").inputs()

Names start with where the network comes from: `tv_` torchvision, `timm_`, `hf_` transformers,
`small_` our own.
"""

from tests.zoo.huggingface import TRANSFORMERS
from tests.zoo.row import ZooModel
from tests.zoo.small import SMALL
from tests.zoo.vision import TIMM, TORCHVISION

__all__ = ["ZOO", "ZooModel", "get"]

ZOO: tuple[ZooModel, ...] = (*SMALL, *TORCHVISION, *TIMM, *TRANSFORMERS)

_BY_NAME = {model.name: model for model in ZOO}
if len(_BY_NAME) != len(ZOO):
    raise ValueError("two zoo models share a name")


def get(name: str) -> ZooModel:
    """The model called `name`; raises KeyError naming the known ones."""
    if name not in _BY_NAME:
        raise KeyError(f"no zoo model {name!r}; known: {', '.join(sorted(_BY_NAME))}")
    return _BY_NAME[name]
