"""NVIDIA's tegrastats: the meaning of its lines, and the program run beside the flight.

Lines differ from release to release and from board to board; every part that is not there is None or empty.

    RAM 2235/7854MB (lfb 208x4MB) CPU [9%@2035,off] EMC_FREQ 2%@1600 GR3D_FREQ 0%@140 BCPU@39.5C VDD_IN 3791/4276
    RAM 3162/30536MB (lfb 6x4MB) CPU [1%@729,off] GR3D_FREQ 0%@[305] tj@47.968C VDD_GPU_SOC 3175mW/3175mW

NVIDIA, "tegrastats Utility" (Jetson Linux Developer Guide, L4T 32.7.5 and 36.4): rails are in milliwatts, now and on
average; clocks in MHz; GR3D is the GPU, whose clocks stand in brackets, one per cluster, from L4T 35 on.
"""

import re
import subprocess
import threading
import time
from typing import Callable, Dict, NamedTuple, Optional, Pattern, Tuple

_RAM = re.compile(r"\bRAM (\d{1,9})/(\d{1,9})([kMG])B\b")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]", re.IGNORECASE)
_CORE = re.compile(r"(\d{1,9})%(?:@(\d{1,9}))?")
_ENGINE = r"\b{}(?:_FREQ)? (?:(\d{{1,9}})%)?(?:@\[?(\d{{1,9}}))?"
_GPU, _EMC = re.compile(_ENGINE.format("GR3D")), re.compile(_ENGINE.format("EMC"))
_HEAT = re.compile(r"(?:^|\s)([A-Za-z][\w.-]*)@(-?\d{1,9}(?:\.\d{1,9})?)C(?=\s|$)")
_RAIL = re.compile(r"(?:^|\s)([A-Z][A-Z0-9_]*) (\d{1,9})(?:mW)?/(\d{1,9})(?:mW)?(?=\s|$)")
_MIB = {"k": 1.0 / 1024, "M": 1.0, "G": 1024.0}

_AGAIN = 30.0  # seconds before a program that ended is started again
_LINE_LIMIT = 8192


class Core(NamedTuple):
    """A processor core that is on. load: percent. mhz: its clock, None where the line does not say."""

    load: int
    mhz: Optional[int]


class Tegrastats(NamedTuple):
    """A line. memory: (used, all) MiB. cores: None for one that is off. gpu, emc: (load in percent, MHz).

    temperatures: °C by sensor. rails: milliwatts now by rail.
    """

    memory: Tuple[float, float]
    cores: Tuple[Optional[Core], ...]
    gpu: Tuple[Optional[int], Optional[int]]
    emc: Tuple[Optional[int], Optional[int]]
    temperatures: Dict[str, float]
    rails: Dict[str, int]


def parse_tegrastats(line: str) -> Optional[Tegrastats]:
    """What a line says; None where it is none of tegrastats'."""
    line = line[:_LINE_LIMIT]
    memory = _RAM.search(line)
    if memory is None:
        return None
    scale = _MIB[memory.group(3)]
    return Tegrastats(
        (int(memory.group(1)) * scale, int(memory.group(2)) * scale),
        _cores(line),
        _engine(_GPU, line),
        _engine(_EMC, line),
        {name: float(value) for name, value in _HEAT.findall(line)},
        {name: int(value) for name, value, _ in _RAIL.findall(line)},
    )


def _cores(line: str) -> Tuple[Optional[Core], ...]:
    found = _CPU.search(line)
    cores = []
    for text in found.group(1).split(",") if found else ():
        core = _CORE.match(text.strip())
        cores.append(Core(int(core.group(1)), _number(core.group(2))) if core else None)
    return tuple(cores)


def _engine(pattern: Pattern[str], line: str) -> Tuple[Optional[int], Optional[int]]:
    found = pattern.search(line)
    return (_number(found.group(1)), _number(found.group(2))) if found else (None, None)


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text else None


class TegrastatsReader:
    """Runs `program` where it is there, and keeps the newest line that it understood.

    newest: it and when it was read, seconds on the monotonic clock; None before the first. problem: why there is none.
    """

    def __init__(self, program: str, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._command = [program, "--interval", str(max(int(interval * 1000), 100))]
        self._clock = clock
        self._over = threading.Event()
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._lock = threading.Lock()
        self.newest: Optional[Tuple[float, Tegrastats]] = None
        self.problem = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="tegrastats")
        self._thread.start()

    def close(self) -> None:
        """End the program."""
        self._over.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.kill()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._read()
            except FileNotFoundError:
                self.problem = "is not there"
                return
            except OSError as error:
                self.problem = error.strerror or str(error)
            self._over.wait(_AGAIN)

    def _read(self) -> None:
        with self._lock:
            if self._over.is_set():
                return
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        process = self._process
        assert process.stdout is not None
        try:
            while True:
                line = process.stdout.readline(_LINE_LIMIT)
                if not line:
                    break
                found = parse_tegrastats(line.decode("ascii", "replace"))
                if found is not None:
                    self.newest, self.problem = (self._clock(), found), ""
        finally:
            process.kill()
            process.stdout.close()
            self.problem = "ended with status {}".format(process.wait())
