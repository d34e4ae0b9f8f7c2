"""Hands what heat and power order to those who keep to it beside the loop: the page and the autopilot."""

from typing import Any, Optional

from deploy.frame import Observation
from deploy.health.part import Health
from deploy.part import Part


class OrdersPart(Part):
    """web: its pictures stop where the orders say so. autopilot: its heartbeat says where the flight is degraded."""

    name = "orders"

    def __init__(self, health: Health, web: Optional[Any], autopilot: Optional[Any]) -> None:
        self._health, self._web, self._autopilot = health, web, autopilot

    def publish(self, observation: Observation) -> None:
        """Hand on what holds now."""
        self.idle(0.0)

    def idle(self, now: float) -> None:
        """As `publish`."""
        orders = self._health.orders
        if self._web is not None:
            self._web.may_stream = orders.may_stream
        if self._autopilot is not None:
            self._autopilot.health = not orders.is_degraded
