"""A Darknet network as an ONNX file: static shape, boxes decoded inside the graph, no NMS. Knows nothing of bundles."""

import io
import warnings

import torch
from torch import Tensor, nn

from pipeline.darknet import DarknetNetwork
from pipeline.errors import refuse

__all__ = ["OPSETS", "export_onnx"]

# TensorRT 8.2, the newest on a Jetson TX2, reads up to 13; Resize as it is written here needs 11.
OPSETS = (11, 12, 13)


class _Detector(nn.Module):
    """The network with its decode: images to boxes and scores, as deploy/bundle.py defines them."""

    def __init__(self, network: DarknetNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.decode(self.network(images))


def export_onnx(network: DarknetNetwork, opset: int = 13) -> bytes:
    """Export `network` for batch 1 at the size of its cfg.

    Returns:
        An ONNX model: "images" (1, 3, H, W) float32, RGB, 0 to 1, to "boxes" (1, M, 4) float32, xyxy in pixels of the
        input, and "scores" (1, M, classes) float32.

    Raises:
        UserError: an opset that the boards do not read, or a network without a yolo layer.
    """
    import onnx

    if opset not in OPSETS:
        raise refuse("opset", opset, f"allowed: {', '.join(map(str, OPSETS))}")
    if not network.spec.heads:
        raise refuse(network.cfg.path, "has no [yolo] layer", "export a detector")
    shape = network.spec.input
    images = torch.zeros(1, shape.channels, shape.height, shape.width)
    buffer = io.BytesIO()
    was_training = network.training
    detector = _Detector(network.cpu().to(memory_format=torch.contiguous_format)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter built on torch.export begins at opset 18 and cannot convert down to 13.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            detector,
            (images,),
            buffer,  # type: ignore[arg-type]
            opset_version=opset,
            dynamo=False,
            input_names=["images"],
            output_names=["boxes", "scores"],
        )
    network.train(was_training)
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
