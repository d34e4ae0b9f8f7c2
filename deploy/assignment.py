"""Who belongs to whom: pairs of rows and columns that together give most. Knows nothing of tracks or boxes."""

import heapq
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np


def best_pairs(gain: np.ndarray, least: float) -> List[Tuple[int, int]]:
    """Pair rows with columns, each at most once, so that the sum of their gains is largest.

    gain: (N, M), 0 or more. least: a pair that gains less is none. Returns (row, column) by row.

    >>> best_pairs(np.array([[0.9, 0.8], [0.7, 0.1]]), 0.3)
    [(0, 1), (1, 0)]
    """
    rows, columns = (side.tolist() for side in np.nonzero((gain >= least) & (gain > 0)))
    if len(rows) == len(set(rows)) == len(set(columns)):  # no choice anywhere
        return list(zip(rows, columns))
    offers: Dict[int, List[Tuple[int, float]]] = {}
    for row, column, value in zip(rows, columns, gain[rows, columns].tolist()):
        offers.setdefault(row, []).append((column, value))
    market = _Market(offers)
    for row in offers:
        market.enter(row)
    return sorted(market.column_of.items())


class _Path(NamedTuple):
    """The cheapest way to let a row in.

    cost: what it costs. column: at its end, free or left by its owner; None where the new row goes without. rows,
    columns: distances of those on the way, which are below `cost`. reached_from: row before each column.
    """

    cost: float
    column: Optional[int]
    rows: Dict[int, float]
    columns: Dict[int, float]
    reached_from: Dict[int, int]


class _Market:
    """Rows come in one after the other and take a column; who has it already moves on to another, or goes without.

    Shortest augmenting paths with prices, over the pairs that gain anything alone, so that a row meets only those that
    it competes with: Kuhn, "The Hungarian method for the assignment problem", 1955; Jonker and Volgenant, "A shortest
    augmenting path algorithm for dense and sparse linear assignment problems", 1987.

    offers: (column, gain) by row. No pair gains more than its row's profit and its column's price together, and a pair
    that is made gains just that; a row without a column has no profit, a free column no price.
    """

    def __init__(self, offers: Dict[int, List[Tuple[int, float]]]) -> None:
        self.column_of: Dict[int, int] = {}
        self._row_of: Dict[int, int] = {}
        self._offers = offers
        self._price = {column: 0.0 for own in offers.values() for column, _ in own}
        self._profit: Dict[int, float] = {}

    def enter(self, row: int) -> None:
        """Let `row` in, so that all who are in gain most together."""
        profits = [(gain - self._price[column], column not in self._row_of) for column, gain in self._offers[row]]
        self._profit[row], is_free = max(profits + [(0.0, False)])
        if self._profit[row] == 0:
            return
        if is_free:
            self._take(row, self._offers[row][profits.index((self._profit[row], True))][0])
            return
        path = self._cheapest(row)
        for reached, distance in path.rows.items():
            self._profit[reached] -= path.cost - distance
        for column, distance in path.columns.items():
            self._price[column] += path.cost - distance
        self._follow(row, path)

    def _cheapest(self, row: int) -> _Path:
        """Dijkstra's search from `row` for a free column, or for a row, itself included, that loses least without."""
        rows, columns, reached_from = {row: 0.0}, {}, {}  # type: Dict[int, float], Dict[int, float], Dict[int, int]
        cost, last = self._profit[row], None  # type: float, Optional[int]
        heap: List[Tuple[float, bool, int, int]] = []  # of lengths that are equal, that to a free column first
        nearest: Dict[int, float] = {}
        at = row
        while True:
            for column, gain in self._offers[at]:
                length = rows[at] + self._profit[at] + self._price[column] - gain
                if length < nearest.get(column, cost):
                    nearest[column] = length
                    heapq.heappush(heap, (length, column in self._row_of, column, at))
            while heap and heap[0][2] in columns:
                heapq.heappop(heap)
            if not heap or heap[0][0] >= cost:
                return _Path(cost, last, rows, columns, reached_from)
            length, _, column, reached_from[column] = heapq.heappop(heap)
            if column not in self._row_of:
                return _Path(length, column, rows, columns, reached_from)
            at = self._row_of[column]
            rows[at] = columns[column] = length
            if length + self._profit[at] < cost:
                cost, last = length + self._profit[at], column

    def _follow(self, row: int, path: _Path) -> None:
        """Everybody on the path moves on by one, from its end on."""
        column = path.column
        if column is None:
            return
        self.column_of.pop(self._row_of.get(column, row), None)
        while column is not None:
            mover = path.reached_from[column]
            left = self.column_of.get(mover)
            self._take(mover, column)
            column = left

    def _take(self, row: int, column: int) -> None:
        self.column_of[row], self._row_of[column] = column, row
