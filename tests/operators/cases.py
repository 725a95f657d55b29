"""All cases, by operator family."""

from tests.operators.case import Case
from tests.operators.contraction import CONTRACTION
from tests.operators.elementwise import ELEMENTWISE
from tests.operators.indexing import INDEXING
from tests.operators.normalization import NORMALIZATION
from tests.operators.opaque import OPAQUE
from tests.operators.pooling import POOLING
from tests.operators.recurrent import RECURRENT
from tests.operators.reduction import REDUCTION
from tests.operators.shape import SHAPE

CASES: tuple[Case, ...] = (
    *CONTRACTION,
    *ELEMENTWISE,
    *INDEXING,
    *NORMALIZATION,
    *OPAQUE,
    *POOLING,
    *RECURRENT,
    *REDUCTION,
    *SHAPE,
)
