"""The networks of one bundle that may run, largest first, each loaded: a hot drone changes to a smaller one at once.

Knows nothing of heat.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from deploy.backends.choose import Choice, open_backend
from deploy.backends.contract import Backend
from deploy.bundle import Bundle
from deploy.events import Events
from deploy.golden import GoldenReport, check_golden


class Network(NamedTuple):
    """A loaded model. bundle: the bundle whose first model it is, which says how it is fed."""

    bundle: Bundle
    backend: Backend


class Networks:
    """One of which is current. networks: at least one, largest first; the first is current."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._index = 0

    @property
    def current(self) -> Network:
        """The one that runs."""
        return self._networks[self._index]

    @property
    def sizes(self) -> Tuple[Tuple[int, int], ...]:
        """(width, height) of each input, pixels, largest first."""
        return tuple((network.bundle.width, network.bundle.height) for network in self._networks)

    @property
    def has_smaller(self) -> bool:
        """Whether there is one smaller than the current."""
        return self._index + 1 < len(self._networks)

    def use_smaller(self) -> bool:
        """Change to the next smaller one; False where there is none."""
        if not self.has_smaller:
            return False
        self._index += 1
        return True

    def use_larger(self) -> bool:
        """Change to the next larger one; False where there is none."""
        if self._index == 0:
            return False
        self._index -= 1
        return True

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
            network.backend.close()


def open_networks(bundle: Bundle, choice: Optional[Choice] = None, events: Optional[Events] = None) -> Networks:
    """Load the bundle's network, and its smaller ones. Where a model is named, or there is one size, it is alone.

    Raises UserError where one does not load; nothing is held then.
    """
    choice = choice or Choice()
    if choice.model is not None:
        bundle = bundle.with_model(choice.model)
    networks: List[Network] = []
    try:
        for size in _sizes(bundle, choice):
            backend = open_backend(bundle, choice, events, size)
            networks.append(Network(bundle.with_model(backend.model), backend))
    except BaseException:
        Networks(networks).close()
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
    text = "{} in {}: {} golden frames, {} detections, scores at most {:.4f} away, IoU at least {:.3f}"
    facts = (report.model, report.precision, report.frames, report.detections, report.score, report.iou)
    events.add("info", kind, text.format(*facts))
    if not report.tells_red_from_blue:
        text = "the golden frames of {} would not notice red taken for blue".format(report.model)
        events.add("warning", "golden.weak", text)
