"""A stand-in for deploy.cuda.Cuda: host memory in place of a GPU's. It has the same methods, which a test checks."""

import ctypes
from typing import Any, Dict, Tuple

import numpy as np

from deploy.cuda import Device


class CudaStandIn:
    """Counts what it gave, so that a test sees whether all came back."""

    def __init__(
        self, name: str = "NVIDIA Tegra X2", capability: str = "6.2", free: int = 4 << 30, shares_memory: bool = False
    ) -> None:
        self._device = Device(name, capability, free, shares_memory)
        self.given: Dict[int, Any] = {}
        self.streams = self.copies = 0

    def device(self) -> Device:
        return self._device

    def allocate(self, size: int) -> int:
        memory = ctypes.create_string_buffer(size)
        self.given[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def free(self, pointer: int) -> None:
        del self.given[pointer]

    def pinned(self, shape: Any) -> np.ndarray:
        array = np.zeros(shape, np.float32)
        self.given[array.ctypes.data] = array
        return array

    def mapped(self, shape: Any) -> Tuple[np.ndarray, int]:
        array = self.pinned(shape)
        return array, array.ctypes.data

    def unpin(self, array: np.ndarray) -> None:
        del self.given[array.ctypes.data]

    def stream(self) -> int:
        self.streams += 1
        return 7

    def destroy(self, stream: int) -> None:
        self.streams -= 1

    def to_device(self, pointer: int, array: np.ndarray, stream: int) -> None:
        self.copies += 1
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def to_host(self, array: np.ndarray, pointer: int, stream: int) -> None:
        self.copies += 1
        ctypes.memmove(array.ctypes.data, pointer, array.nbytes)

    def wait(self, stream: int) -> None:
        assert stream == 7
