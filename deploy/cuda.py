"""The CUDA runtime through ctypes: device memory, pinned host memory, one stream, and what GPU this is.

CUDA is loaded when a `Cuda` is made. Function names and arguments: NVIDIA's CUDA Runtime API reference, unchanged from
10.2 (Jetson TX2) to 13. Knows nothing of networks.
"""

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from deploy.errors import refuse

_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2")
# enum cudaDeviceAttr and cudaMemcpyKind in driver_types.h.
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
_TO_DEVICE, _TO_HOST = 1, 2
_MAPPED = 2  # cudaHostAllocMapped in driver_types.h


class Device(NamedTuple):
    """A GPU. compute_capability: such as "6.2".

    free_bytes: memory that may be taken now; that of the whole machine where the GPU shares it. None: not asked.
    shares_memory: whether it works on the memory of the CPU, as on a Jetson.
    """

    name: str
    compute_capability: str
    free_bytes: Optional[int]
    shares_memory: bool = False


class Cuda:
    """The CUDA runtime of this machine.

    Raises UserError where there is no CUDA, no driver or no GPU.
    """

    def __init__(self) -> None:
        self._library = _load()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))

    def device(self, meminfo: Path = Path("/proc/meminfo")) -> Device:
        """What the first GPU is, and how much memory is free."""
        # The name is the first member of cudaDeviceProp in every version; the rest grew, and fits in here.
        properties = ctypes.create_string_buffer(16384)
        self._call("cudaGetDeviceProperties", properties, ctypes.c_int(0))
        capability = "{}.{}".format(self._attribute(_MAJOR), self._attribute(_MINOR))
        name = properties.raw[:256].split(b"\0")[0].decode("ascii", "replace")
        if self._attribute(_INTEGRATED):
            return Device(name, capability, available_memory(meminfo), shares_memory=True)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return Device(name, capability, free.value)

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value or 0

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", ctypes.c_void_p(pointer))

    def pinned(self, shape: Any) -> np.ndarray:
        """A float32 array of pinned host memory, which the GPU copies without a detour; `unpin` gives it back."""
        pointer = ctypes.c_void_p()
        self._call("cudaMallocHost", ctypes.byref(pointer), ctypes.c_size_t(_size(shape)))
        return _array(pointer, shape)

    def mapped(self, shape: Any) -> Tuple[np.ndarray, int]:
        """A float32 array of pinned host memory, and its address for the GPU, which works on it without a copy.

        For a GPU that shares the memory (CUDA for Tegra, "Memory Selection": pinned for small buffers); elsewhere every
        access goes over the bus. `unpin` gives it back.
        """
        pointer, device = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(_size(shape)), ctypes.c_uint(_MAPPED))
        self._call("cudaHostGetDevicePointer", ctypes.byref(device), pointer, ctypes.c_uint(0))
        return _array(pointer, shape), device.value or 0

    def unpin(self, array: np.ndarray) -> None:
        """Give pinned memory back; `array` is used no more."""
        self._call("cudaFreeHost", ctypes.c_void_p(array.ctypes.data))

    def stream(self) -> int:
        """A new stream."""
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        return stream.value or 0

    def destroy(self, stream: int) -> None:
        """End a stream."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def to_device(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """Begin to copy a contiguous array to the device."""
        self._copy(pointer, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def to_host(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """Begin to copy from the device into a contiguous array."""
        self._copy(array.ctypes.data, pointer, array.nbytes, _TO_HOST, stream)

    def wait(self, stream: int) -> None:
        """Wait until everything on the stream is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        pointers = (ctypes.c_void_p(target), ctypes.c_void_p(source))
        self._call("cudaMemcpyAsync", *pointers, ctypes.c_size_t(size), ctypes.c_int(kind), ctypes.c_void_p(stream))

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), ctypes.c_int(0))
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            reason = self._library.cudaGetErrorString(ctypes.c_int(status)).decode("ascii", "replace")
            found = "{} says {}".format(name, reason)
            raise refuse("CUDA", found, "check the GPU's driver, its memory, and what else uses it")


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> Optional[int]:
    """Bytes that programs may take without swapping, as Linux estimates them; None where it does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None


def _size(shape: Any) -> int:
    """Bytes of a float32 array."""
    return int(np.prod(shape)) * 4


def _array(pointer: ctypes.c_void_p, shape: Any) -> np.ndarray:
    memory = (ctypes.c_char * _size(shape)).from_address(pointer.value or 0)
    return np.frombuffer(memoryview(memory), np.float32).reshape(shape)


def _load() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    for path in _installed():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            pass
    raise refuse("CUDA", "no libcudart on this machine", "run this on the machine with the GPU, with CUDA installed")


def _installed() -> Iterator[Path]:
    """Where CUDA's own installer and NVIDIA's wheels put the library."""
    yield from sorted(Path("/usr/local/cuda/lib64").glob("libcudart.so*"))
    spec = importlib.util.find_spec("nvidia")
    folders: List[str] = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        yield from sorted(Path(folder).glob("*/lib/libcudart.so.*"))
