"""`skylight doctor`: looks at everything that keeps a workstation from curating, training and exporting.

A line for each check: ok, warning or problem, what was found, and the remedy, as the drone's doctor (deploy/life). It
changes nothing. Libraries are imported in children only, so that it works where one of them is broken.
"""

from pipeline.doctor.hardware import check_cores, check_gpu, check_memory
from pipeline.doctor.libraries import check_extras, check_libraries, check_mongod, check_opencv, check_python
from pipeline.doctor.places import check_cache, check_chromium, check_disk, check_folders, check_keys
from pipeline.doctor.workstation import Workstation

__all__ = ["CHECKS", "Workstation"]

CHECKS = (
    check_python,
    check_libraries,
    check_opencv,
    check_gpu,
    check_cores,
    check_memory,
    check_disk,
    check_folders,
    check_cache,
    check_keys,
    check_mongod,
    check_chromium,
    check_extras,
)
