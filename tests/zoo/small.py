"""Our own small networks: each shows one way in which channels depend on each other."""

from tests.zoo.row import ZooModel
from tests.zoo.small_attention import ATTENTION
from tests.zoo.small_convolution import CONVOLUTION
from tests.zoo.small_image import IMAGE
from tests.zoo.small_recurrent import RECURRENT
from tests.zoo.small_sequence import SEQUENCE
from tests.zoo.small_structure import STRUCTURE
from tests.zoo.small_tabular import TABULAR

SMALL: tuple[ZooModel, ...] = (
    *CONVOLUTION,
    *IMAGE,
    *SEQUENCE,
    *ATTENTION,
    *RECURRENT,
    *TABULAR,
    *STRUCTURE,
)
