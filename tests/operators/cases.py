"""All cases, by operator family."""

from tests.operators.case import Case
from tests.operators.contraction import CONTRACTION
from tests.operators.decomposed import DECOMPOSED
from tests.operators.distance import DISTANCE
from tests.operators.elementwise import ELEMENTWISE
from tests.operators.indexing import INDEXING
from tests.operators.normalization import NORMALIZATION
from tests.operators.opaque import OPAQUE
from tests.operators.pooling import POOLING
from tests.operators.products import PRODUCTS
from tests.operators.recurrent import RECURRENT
from tests.operators.reduction import REDUCTION
from tests.operators.scatter import SCATTER
from tests.operators.shape import SHAPE
from tests.operators.special import SPECIAL
from tests.operators.spectral import SPECTRAL
from tests.operators.stacking import STACKING
from tests.operators.statistics import STATISTICS

CASES: tuple[Case, ...] = (
    *CONTRACTION,
    *DECOMPOSED,
    *DISTANCE,
    *ELEMENTWISE,
    *INDEXING,
    *NORMALIZATION,
    *OPAQUE,
    *POOLING,
    *PRODUCTS,
    *RECURRENT,
    *REDUCTION,
    *SCATTER,
    *SHAPE,
    *SPECIAL,
    *SPECTRAL,
    *STACKING,
    *STATISTICS,
)
