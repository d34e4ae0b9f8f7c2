"""What runs the network: TensorRT, ONNX Runtime or OpenCV, chosen by what is there. Knows nothing of pictures."""

from deploy.backends.choose import AUTO, ENGINES, KINDS, Choice, open_backend
from deploy.backends.contract import Backend, check_contract
from deploy.backends.networks import Networks, open_networks
from deploy.backends.onnx_runtime import OnnxRuntimeBackend

__all__ = [
    "AUTO",
    "ENGINES",
    "KINDS",
    "Backend",
    "Choice",
    "Networks",
    "OnnxRuntimeBackend",
    "check_contract",
    "open_backend",
    "open_networks",
]
