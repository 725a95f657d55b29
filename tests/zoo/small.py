"""Our own small networks: each shows one way in which channels depend on each other."""

from tests.zoo.row import ZooModel
from tests.zoo.small_convolution import CONVOLUTION
from tests.zoo.small_sequence import SEQUENCE
from tests.zoo.small_structure import STRUCTURE

SMALL: tuple[ZooModel, ...] = (*CONVOLUTION, *SEQUENCE, *STRUCTURE)
