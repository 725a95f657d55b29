"""Make torchvision import in environments that `make setup` did not make."""

import sys

from tests.zoo.torchvision_operators import Finder


def ensure_torchvision() -> None:
    """Make `import torchvision` work; call before importing torchvision, timm or transformers."""
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, Finder())
    import torchvision  # noqa: F401
