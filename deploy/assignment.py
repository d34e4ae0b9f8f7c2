"""Who belongs to whom: pairs of rows and columns that together give most. Knows nothing of tracks or boxes."""

from typing import List, Tuple

import numpy as np


def best_pairs(gain: np.ndarray, least: float) -> List[Tuple[int, int]]:
    """Pair rows with columns, each at most once, so that the sum of their gains is largest.

    gain: (N, M), 0 or more. least: a pair that gains less is none. Returns (row, column) by row.

    >>> best_pairs(np.array([[0.9, 0.8], [0.7, 0.1]]), 0.3)
    [(0, 1), (1, 0)]
    """
    gain = np.where(gain >= least, gain, 0.0)
    rows, columns = gain.shape
    if not rows or not columns:
        return []
    if (np.count_nonzero(gain, axis=0) <= 1).all() and (np.count_nonzero(gain, axis=1) <= 1).all():
        found = [(int(row), int(column)) for row, column in zip(*np.nonzero(gain))]  # no choice anywhere
    elif rows <= columns:
        found = list(enumerate(_hungarian(-gain)))
    else:
        found = sorted((row, column) for column, row in enumerate(_hungarian(-gain.T)))
    return [(row, column) for row, column in found if gain[row, column] > 0]


def _hungarian(cost: np.ndarray) -> List[int]:
    """The column of each row at the least total cost; at least as many columns as rows.

    Shortest augmenting paths with potentials, rows * rows * columns steps: Kuhn, "The Hungarian method for the
    assignment problem", 1955; Jonker and Volgenant, "A shortest augmenting path algorithm", 1987.
    """
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # row of each column; the last column is where a new row starts
    for row in range(rows):
        owner[columns] = row
        column = columns
        slack, reached_from = np.full(columns, np.inf), np.full(columns, columns)
        is_done = np.zeros(columns + 1, bool)
        while owner[column] >= 0:
            is_done[column] = True
            at = owner[column]
            reduced = cost[at] - row_price[at] - column_price[:columns]
            is_nearer = ~is_done[:columns] & (reduced < slack)
            slack[is_nearer], reached_from[is_nearer] = reduced[is_nearer], column
            following = int(np.argmin(np.where(is_done[:columns], np.inf, slack)))
            step = slack[following]
            row_price[owner[is_done]] += step
            column_price[is_done] -= step
            slack[~is_done[:columns]] -= step
            column = following
        while column != columns:
            owner[column] = owner[reached_from[column]]
            column = reached_from[column]
    of_row = [0] * rows
    for column in range(columns):
        if owner[column] >= 0:
            of_row[owner[column]] = column
    return of_row
