"""What runs on the device: load a compiled artifact and execute it.

    from autoprune.runtime import Session

    session = Session("model.apz", digest="3f1c...")
    outputs = session.run({"x": x})

Depends on numpy and onnxruntime only, and is also installed alone as `autoprune_runtime`. Imports
inside this package are therefore relative, and nothing else of autoprune is imported here.
ONNX Runtime is loaded by the first session.
"""

from .errors import (
    ArtifactError,
    AutopruneRuntimeError,
    DenseNotice,
    InputError,
    NotEqualError,
    TargetError,
)
from .extraction import Extracted, extract
from .latency import Latency
from .manifest import TensorSpec
from .session import Session
from .verification import Verification

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "AutopruneRuntimeError",
    "DenseNotice",
    "Extracted",
    "InputError",
    "Latency",
    "NotEqualError",
    "Session",
    "TargetError",
    "TensorSpec",
    "Verification",
    "extract",
]
