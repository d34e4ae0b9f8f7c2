"""The settings of heat and power."""

from typing import NamedTuple

from deploy.settings import require_ranges


class HealthSettings(NamedTuple):
    """What the flight does less of when the board gets hot.

    Temperatures are in degrees Celsius.
    margin: below the temperature where the board slows its own clocks, at which the ladder goes a rung up; 0 to 50.
    shutdown_margin: below a shutdown, where no slowdown is known; 0 to 60. limit: at which a zone of which nothing is
    known counts as slowed down; 40 to 120. hysteresis: that a zone must cool before it counts as cool; 1 to 40.
    worse_after: seconds between two rungs up, at least; 1 to 600. better_after: seconds of coolness before a rung down;
    from worse_after to 3600. interval: seconds between two looks; 0.1 to 10. max_rate: frames a second from the first
    rung on; 0.1 to 1000. low_memory: MiB available below which it is told; 0 for never. low_disk: the same of the disk
    of `disk`, a folder. patience: seconds that a sensor may take; 0.05 to 10. tegrastats: program, or none.
    """

    margin: float = 5.0
    shutdown_margin: float = 15.0
    limit: float = 90.0
    hysteresis: float = 8.0
    worse_after: float = 10.0
    better_after: float = 60.0
    interval: float = 1.0
    max_rate: float = 10.0
    low_memory: int = 256
    low_disk: int = 512
    disk: str = "/var/lib/skylight"
    patience: float = 0.5
    tegrastats: str = "tegrastats"

    def check(self) -> None:
        """Refuse what is out of range."""
        require_ranges(
            self,
            margin=(0, 50),
            shutdown_margin=(0, 60),
            limit=(40, 120),
            hysteresis=(1, 40),
            worse_after=(1, 600),
            better_after=(self.worse_after, 3600),
            interval=(0.1, 10),
            patience=(0.05, 10),
            max_rate=(0.1, 1000),
            low_memory=(0, 1 << 20),
            low_disk=(0, 1 << 30),
        )
