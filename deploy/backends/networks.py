"""The networks of one bundle that may run, largest first, each loaded: a hot drone changes to a smaller one at once.

Knows nothing of heat.
"""

from typing import List, Optional, Sequence, Tuple

from deploy.backends.choose import Choice, open_backend
from deploy.bundle import Bundle
from deploy.events import Events
from deploy.golden import GoldenReport, check_golden
from deploy.vision import Vision


class Networks:
    """own: the one that runs unless a smaller one is wanted. networks: at least one, that one first, then by size."""

    def __init__(self, networks: Sequence[Vision]) -> None:
        self._networks = tuple(networks)
        self.own = self._networks[0]

    @property
    def sizes(self) -> Tuple[Tuple[int, int], ...]:
        """(width, height) of each input, pixels, largest first."""
        return tuple(network.size for network in self._networks)

    def at(self, size: Optional[Tuple[int, int]]) -> Vision:
        """The network whose input has `size`, pixels; the bundle's own for None, and where there is none of it."""
        return next((network for network in self._networks if network.size == size), self.own)

    def check_golden(self, events: Optional[Events] = None) -> List[GoldenReport]:
        """Run the golden frames through every network, before any of them flies.

        Raises UserError that names model and frame and says by how much it departs.
        """
        reports = [check_golden(network.bundle, network.backend) for network in self._networks]
        for number, report in enumerate(reports if events is not None else ()):
            _tell(events, "golden.smaller" if number else "golden", report)
        return reports

    def close(self) -> None:
        """Give back what all of them hold."""
        for network in self._networks:
            network.close()


def open_networks(bundle: Bundle, choice: Optional[Choice] = None, events: Optional[Events] = None) -> Networks:
    """Load the bundle's network, and its smaller ones. Where a model is named, or there is one size, it is alone.

    Raises UserError where one does not load; nothing is held then.
    """
    choice = choice or Choice()
    if choice.model is not None:
        bundle = bundle.with_model(choice.model)
    networks: List[Vision] = []
    try:
        for size in _sizes(bundle, choice):
            backend = open_backend(bundle, choice, events, size)
            networks.append(Vision(bundle.with_model(backend.model), backend))
    except BaseException:
        for network in networks:
            network.close()
        raise
    return Networks(networks)


def _sizes(bundle: Bundle, choice: Choice) -> List[Tuple[int, int]]:
    own = bundle.width, bundle.height
    if choice.model is not None:
        return [own]
    sizes = {(model.width, model.height) for model in bundle.models}
    return [own] + sorted((size for size in sizes if size[0] * size[1] < own[0] * own[1]), reverse=True)


def _tell(events: Optional[Events], kind: str, report: GoldenReport) -> None:
    if events is None:
        return
    events.add("info", kind, report.text)
    if not report.tells_red_from_blue:
        text = "the golden frames of {} would not notice red taken for blue".format(report.model)
        events.add("warning", "golden.weak", text)
