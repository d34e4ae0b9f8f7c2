"""The settings of the flight log."""

from typing import NamedTuple

from deploy.settings import require_ranges


class LogSettings(NamedTuple):
    """What a flight leaves on disk.

    folder: of all flights. is_on: no writes nothing. disk: MiB that all flights' records may take; 4 to 1000000.
    segment: MiB of one file of records; 0.05 to 64. sync: seconds between two syncs, so much a power cut costs; 0.1 to
    60. protect: minutes at the end of this flight that are never deleted; 0 to 600. reserve: MiB left free on the disk;
    0 to 1000000. queue: records that may wait for the disk; 10 to 100000. heat: seconds between two looks at heat and
    power; 1 to 600.

    keep: frames worth labelling kept a minute; 0 for none, to 600. frames_disk: MiB that they may take; 1 to 1000000.
    quality: of their JPEG; 50 to 100. band: above the threshold, a score within it is unsure; 0 to 1. jump: change of a
    score between two frames that is flicker; 0.05 to 1. lost_after: frames that a track was detected in, before losing
    it counts; 1 to 1000. scene: mean difference of grey, of 255, from every scene kept that makes a new one; 1 to 255.
    random_every: minutes between two frames kept by chance, on average; 0 for none.
    """

    folder: str = "/var/lib/skylight/log"
    is_on: bool = True
    disk: float = 2000.0
    segment: float = 4.0
    sync: float = 1.0
    protect: float = 20.0
    reserve: float = 200.0
    queue: int = 3000
    heat: float = 10.0
    keep: int = 12
    frames_disk: float = 2000.0
    quality: int = 92
    band: float = 0.1
    jump: float = 0.25
    lost_after: int = 5
    scene: float = 25.0
    random_every: float = 2.0

    def check(self) -> None:
        """Refuse what is out of range."""
        require_ranges(
            self,
            disk=(4, 10**6),
            segment=(0.05, 64),
            sync=(0.1, 60),
            protect=(0, 600),
            reserve=(0, 10**6),
            queue=(10, 100000),
            heat=(1, 600),
            keep=(0, 600),
            frames_disk=(1, 10**6),
            quality=(50, 100),
            band=(0, 1),
            jump=(0.05, 1),
            lost_after=(1, 1000),
            scene=(1, 255),
            random_every=(0, 10**6),
        )
