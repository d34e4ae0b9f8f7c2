"""The doctor's look at processor, memory and GPU: driver, CUDA, and whether torch reaches it."""

import os
import re

from deploy.life.checks import OK, PROBLEM, WARNING, Check
from pipeline.doctor.workstation import Workstation, amount

__all__ = ["check_cores", "check_gpu", "check_memory"]

# The oldest driver by the major version of CUDA that a program was built with:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}

# GiB. Tiny-YOLOv3 at 416 with a batch of 64 trains in the second; below the first an import of torch may end in a kill.
_LEAST_MEMORY = 1
_GOOD_MEMORY = 4

_NVIDIA = "0x10de"  # vendor on the PCI bus

_TORCH_CODE = """
import torch
print(torch.__version__)
print(torch.version.cuda or torch.version.hip or "")
if torch.cuda.is_available():
    torch.ones(4, device="cuda").sum().item()
    for number in range(torch.cuda.device_count()):
        print(torch.cuda.get_device_name(number))
"""


def check_gpu(workstation: Workstation) -> list[Check]:
    """The GPUs, their driver, and torch on them. Without a GPU everything runs on the processor."""
    name, version = "torch", workstation.run_python(_TORCH_CODE)
    if version.status != 0:
        remedy = "make setup; where it dies on a GPU, CUDA_VISIBLE_DEVICES= trains on the processor"
        return [_check_driver(workstation), Check(name, PROBLEM, version.ending, remedy)]
    torch, cuda, *devices = version.output.splitlines()
    driver = _check_driver(workstation)
    if devices:
        return [driver, Check(name, OK, f"{torch}, CUDA {cuda}, on {', '.join(devices)}")]
    if driver.level != OK or driver.value == _NO_GPU:
        return [driver, Check(name, OK, f"{torch}, on the processor")]
    if not cuda:
        remedy = "install torch as its site says for your CUDA; this one is built for processors"
        return [driver, Check(name, WARNING, f"{torch}, without CUDA beside a GPU", remedy)]
    return [driver, _check_cuda(torch, cuda, driver.value)]


def check_cores(workstation: Workstation) -> list[Check]:
    """Cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    value = f"{cores} of {os.cpu_count()}"
    limit = re.fullmatch(r"(\d+) (\d+)", workstation.read("/sys/fs/cgroup/cpu.max") or "")
    if limit and int(limit[1]) < cores * int(limit[2]):
        value += f", of which a container allows {int(limit[1]) / int(limit[2]):g}"
    return [Check("cores", OK, value)]


def check_memory(workstation: Workstation) -> list[Check]:
    """What is free now, within the limit of a container."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", workstation.read("/proc/meminfo") or "", re.MULTILINE)
    if found is None:
        return [Check("free memory", WARNING, "unknown: no MemAvailable in /proc/meminfo", "look with free -m")]
    free, about = int(found[1]) / 2**20, "free"
    limit, used = (workstation.read(f"/sys/fs/cgroup/memory.{name}") or "" for name in ("max", "current"))
    if limit.isdecimal() and used.isdecimal() and (int(limit) - int(used)) / 2**30 < free:
        free, about = (int(limit) - int(used)) / 2**30, "free in this container"
    return [amount("free memory", free, _LEAST_MEMORY, _GOOD_MEMORY, about, "end other programs, or lower batch")]


_NO_GPU = "no NVIDIA GPU; everything runs on the processor"


def _check_driver(workstation: Workstation) -> Check:
    """What nvidia-smi says of every GPU; a card on the bus that it does not know has no driver."""
    is_on_bus = any(
        path.read_text().strip() == _NVIDIA and (path.parent / "class").read_text().startswith("0x03")
        for path in workstation.files.glob("sys/bus/pci/devices/*/vendor")
    )
    tool = workstation.which("nvidia-smi")
    if tool is None:
        if is_on_bus:
            remedy = "install NVIDIA's driver (Debian: nvidia-driver; Ubuntu: ubuntu-drivers install), and restart"
            return Check("GPU", WARNING, "an NVIDIA GPU on the bus, and no driver", remedy)
        return Check("GPU", OK, _NO_GPU)
    told = workstation.run(tool, "--query-gpu=name,driver_version,memory.free,memory.total", "--format=csv,noheader")
    if told.status != 0:
        lines = (told.output or told.error).strip().splitlines()
        remedy = "restart the machine after a new driver; else install the driver again"
        return Check("GPU", WARNING, f"nvidia-smi: {lines[0] if lines else told.ending}", remedy)
    rows = [[part.strip() for part in line.split(",")] for line in told.output.strip().splitlines()]
    if not rows:
        return Check("GPU", OK, _NO_GPU)
    named = "; ".join(f"{name}, {free} of {total} free" for name, _, free, total in rows)
    return Check("GPU", OK, f"{named}; driver {rows[0][1]}")


def _check_cuda(torch: str, cuda: str, driver: str) -> Check:
    """Why torch, built for this CUDA, does not reach the GPU."""
    found = re.search(r"driver (\d+)", driver)
    oldest = _OLDEST_DRIVER.get(int(cuda.split(".")[0]))
    value = f"{torch}, CUDA {cuda}, reaches no GPU"
    if found and oldest and int(found[1]) < oldest:
        remedy = "install a newer driver, or torch for an older CUDA"
        return Check("torch", PROBLEM, f"{value}: CUDA {cuda} asks for driver {oldest} or newer", remedy)
    return Check("torch", PROBLEM, value, "look at CUDA_VISIBLE_DEVICES, and at dmesg | grep -i nvrm")
