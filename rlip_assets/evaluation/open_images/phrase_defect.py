"""The published defect of phrase matching with suppression on, reproduced for comparison with published figures only.

Suppression leaves the phrases of an image grouped by class, classes in the order in which they first appear among the image's K
best. Matches are looked for in this list. Then the list is sorted by score, and the matches are read at the new positions: each
phrase gets the match of the phrase that stood at its place before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ragged import first_of_runs
from rlip_assets.evaluation.core.state import FlatCells

Rows = npt.NDArray[np.int64]


def shifted_matches(
    best: Rows, groups: Rows, cells: FlatCells, all_groups: Rows, all_cells: FlatCells
) -> tuple[Rows, Rows]:
    """The match that each phrase is credited with, (n,), and its place in the grouped list, (n,), which settles ties of scores.

    Args:
        best: (n,) the match of each phrase itself.
        groups: (n,) one number for each image and class.
        cells: the phrases that survive suppression.
        all_groups, all_cells: the same of the K best cells before any suppression.
    """
    first_seen = np.empty(len(all_groups), np.int64)
    first_seen[np.lexsort((all_cells.order, -all_cells.score, all_cells.image))] = np.arange(len(all_groups))
    by_group = np.lexsort((first_seen, all_groups))
    first = by_group[first_of_runs(all_groups[by_group])]
    group_rank = first_seen[first][np.searchsorted(all_groups[first], groups)]
    grouped = np.lexsort((cells.order, -cells.score, group_rank))
    place = np.empty(len(grouped), np.int64)
    place[grouped] = np.arange(len(grouped))
    by_score = np.lexsort((place, -cells.score, cells.image))
    shifted = np.empty_like(best)
    shifted[by_score] = best[grouped]
    return shifted, place
