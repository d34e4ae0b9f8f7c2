"""Whole networks against other implementations: what Darknet printed for real photos, and OpenCV's Darknet reader."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deploy.decode import select
from deploy.nms import nms
from pipeline.darknet import DarknetNetwork, load_weights, network_cfg, read_cfg, save_weights, with_options
from pipeline.darknet.image import resize_like_darknet

SCORE_TOLERANCE = 0.01
BOX_TOLERANCE = 1.0  # pixels of the whole photo


@pytest.fixture(scope="module")
def yolo_fastest(darknet_data: Path) -> DarknetNetwork:
    network = DarknetNetwork(read_cfg(darknet_data / "yolo-fastest-1.1.cfg"))
    load_weights(network, darknet_data / "yolo-fastest-1.1.weights")
    return network.eval()


def _read_photo(path: Path) -> np.ndarray:
    photo = cv2.imread(str(path))
    assert photo is not None
    return np.ascontiguousarray(photo[:, :, ::-1])


def _printed_by_darknet(path: Path, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4) xyxy in pixels of the photo, scores (N,), classes (N,)."""
    rows = np.loadtxt(path, ndmin=2)
    size = np.array([width, height])
    centre, half = rows[:, 2:4] * size, rows[:, 4:6] * size / 2
    return np.concatenate([centre - half, centre + half], axis=1), rows[:, 1], rows[:, 0].astype(int)


def _detect(network: DarknetNetwork, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = network.spec.input
    resized = resize_like_darknet(photo, size.width, size.height)
    with torch.no_grad():
        boxes, scores = network.decode(network(torch.from_numpy(resized).permute(2, 0, 1)[None]))
    found, values, classes = select(boxes[0].numpy(), scores[0].numpy(), 0.25)
    kept = nms(found, values, classes, 0.45)
    scale = np.array([photo.shape[1] / size.width, photo.shape[0] / size.height] * 2)
    return found[kept] * scale, values[kept], classes[kept]


@pytest.mark.parametrize("photo", ["dog", "person"])
def test_yolo_fastest_finds_what_darknet_printed(darknet_data: Path, yolo_fastest: DarknetNetwork, photo: str) -> None:
    image = _read_photo(darknet_data / f"{photo}.jpg")
    height, width = image.shape[:2]
    boxes, scores, classes = _printed_by_darknet(
        darknet_data / f"yolo-fastest-1.1_{photo}_detections.txt", width, height
    )
    found_boxes, found_scores, found_classes = _detect(yolo_fastest, image)
    expected_order, order = np.lexsort((-scores, classes)), np.lexsort((-found_scores, found_classes))
    assert found_classes[order].tolist() == classes[expected_order].tolist()
    np.testing.assert_allclose(found_scores[order], scores[expected_order], rtol=0, atol=SCORE_TOLERANCE)
    np.testing.assert_allclose(found_boxes[order], boxes[expected_order], rtol=0, atol=BOX_TOLERANCE)


def _randomise(network: DarknetNetwork, seed: int = 0) -> None:
    """Random weights and batch-norm statistics, as a trained network has them."""
    generator = torch.Generator().manual_seed(seed)
    for index in network.spec.weighted_layers:
        layer = network.weighted(index)
        if layer.norm is None:
            layer.bias.data.normal_(0, 0.1, generator=generator)
            continue
        layer.norm.bias.data.normal_(0, 0.1, generator=generator)
        layer.norm.scale.data.uniform_(0.5, 1.5, generator=generator)
        layer.norm.rolling_mean.normal_(0, 0.1, generator=generator)
        layer.norm.rolling_variance.uniform_(0.5, 1.5, generator=generator)


def _opencv_outputs(cfg: Path, weights: Path, image: np.ndarray) -> list[np.ndarray]:
    """(1, C, H, W) float32 to the outputs of OpenCV's unconnected layers."""
    reader = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    reader.setInput(image)
    return list(reader.forward(reader.getUnconnectedOutLayersNames()))


def _assert_detections_agree(network: DarknetNetwork, cfg: Path, weights: Path, image: np.ndarray) -> None:
    """OpenCV gives rows of cx, cy, w, h (relative), objectness and scores, of which it zeroes those below its 0.2."""
    rows = np.concatenate(_opencv_outputs(cfg, weights, image))
    with torch.no_grad():
        boxes, scores = (values[0].numpy() for values in network.decode(network(torch.from_numpy(image))))
    # OpenCV counts cell after cell and within it the anchors; here it is anchor after anchor.
    order = _cell_after_cell(network)
    boxes, scores = boxes[order], scores[order]
    size = np.array([network.spec.input.width, network.spec.input.height])
    centre, wh = (boxes[:, :2] + boxes[:, 2:]) / 2 / size, (boxes[:, 2:] - boxes[:, :2]) / size
    np.testing.assert_allclose(np.concatenate([centre, wh], axis=1), rows[:, :4], rtol=2e-4, atol=2e-4)
    is_reported = rows[:, 5:] > 0
    assert is_reported.any()
    np.testing.assert_allclose(scores[is_reported], rows[:, 5:][is_reported], rtol=0, atol=2e-4)


def _cell_after_cell(network: DarknetNetwork) -> np.ndarray:
    orders, start = [], 0
    for index, head in zip(network.spec.yolo_layers, network.spec.heads, strict=True):
        cells = network.spec.shapes[index].height * network.spec.shapes[index].width
        count = len(head.mask) * cells
        orders.append(start + np.arange(count).reshape(len(head.mask), cells).T.ravel())
        start += count
    return np.concatenate(orders)


def test_yolo_fastest_agrees_with_opencv(
    darknet_data: Path, yolo_fastest: DarknetNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenCV's reader takes 1e-6 where Darknet takes 1e-5; on trained weights that shows in the third digit.
    monkeypatch.setattr("pipeline.darknet.batch_norm.BATCH_NORM_EPS", 1e-6)
    size = yolo_fastest.spec.input
    photo = resize_like_darknet(_read_photo(darknet_data / "dog.jpg"), size.width, size.height)
    _assert_detections_agree(
        yolo_fastest,
        darknet_data / "yolo-fastest-1.1.cfg",
        darknet_data / "yolo-fastest-1.1.weights",
        np.ascontiguousarray(photo.transpose(2, 0, 1)[None]),
    )


def _random_image(network: DarknetNetwork) -> np.ndarray:
    shape = network.spec.input
    size = (1, shape.channels, shape.height, shape.width)
    return np.random.default_rng(0).random(size, dtype=np.float32)


def _written(network: DarknetNetwork, folder: Path) -> tuple[Path, Path]:
    cfg, weights = folder / "network.cfg", folder / "network.weights"
    cfg.write_text(network.cfg.text)
    save_weights(network, weights)
    return cfg, weights


@pytest.mark.parametrize(
    ("name", "width", "height"), [("yolov3-tiny", 224, 160), ("yolov4-tiny", 224, 160), ("yolov3", 96, 64)]
)
def test_random_detector_agrees_with_opencv(name: str, width: int, height: int, tmp_path: Path) -> None:
    size = {"width": str(width), "height": str(height)}
    network = DarknetNetwork(with_options(network_cfg(name), {}, size)).eval()
    _randomise(network)
    _assert_detections_agree(network, *_written(network, tmp_path), _random_image(network))


@pytest.mark.parametrize("name", ["darknet", "darknet19", "darknet53"])
def test_random_classifier_agrees_with_opencv(name: str, tmp_path: Path) -> None:
    network = DarknetNetwork(with_options(network_cfg(name), {}, {"width": "128", "height": "128"})).eval()
    _randomise(network)
    image = _random_image(network)
    (expected,) = _opencv_outputs(*_written(network, tmp_path), image)
    with torch.no_grad():
        (found,) = network(torch.from_numpy(image))
    np.testing.assert_allclose(found.numpy().ravel(), expected.ravel(), rtol=1e-3, atol=1e-6)
