"""Random plans, per outer unit where that is allowed."""

import numpy as np

from autoprune.ir.positions import PerOuter


def random_choices(rng, groups, outers):
    """By leaf, units of each group at random, for each unit of its outer leaf if it has one."""
    kept = {}
    for uid, group in groups.items():
        rows = outers[uid].size if uid in outers else 1
        units = rng.permuted(np.tile(np.arange(group.units), (rows, 1)), axis=1)
        units = np.sort(units[:, : rng.integers(1, group.units + 1)], axis=1)
        kept[uid] = PerOuter(outers[uid].uid, units) if uid in outers else units[0]
    return kept
