"""The two figures in which times and ages are told: the middle, and the slow end. Knows nothing of what is measured."""

from typing import Iterable, List

import numpy as np


def percentiles(values: Iterable[float]) -> List[float]:
    """[median, 99th percentile], rounded to thousandths, with numpy's linear interpolation; [] where there are none.

    >>> percentiles([1.0, 2.0, 3.0]), percentiles([])
    ([2.0, 2.98], [])
    """
    found = list(values)
    return [round(float(value), 3) for value in np.percentile(found, (50, 99))] if found else []
