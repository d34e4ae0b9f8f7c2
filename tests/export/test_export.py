"""What is exported gives what was trained, and an export that does not is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from drawn import SMALL_CFG, assert_refused

from deploy.bundle import read_bundle
from pipeline.curated import read_curated_set
from pipeline.darknet import DarknetNetwork, adapted, load_weights, network_cfg, read_cfg
from pipeline.errors import UserError
from pipeline.export.onnx import OPSETS, export_onnx
from pipeline.export.parity import LIMITS, check_parity
from pipeline.train.dataset import load_images

# What TensorRT 8.2 reads of what a Darknet network needs.
KNOWN_OPERATORS = {
    *("Conv", "LeakyRelu", "MaxPool", "Concat", "Resize", "Reshape", "Sigmoid", "Exp", "Mul", "Add", "Sub", "Div"),
    *("Slice", "Transpose", "Unsqueeze", "Constant", "Split", "Gather", "Squeeze", "Identity", "Cast"),
}


def _random_statistics(network: DarknetNetwork) -> DarknetNetwork:
    """Batch norm as after some training, so that folding it is not folding nothing."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if "rolling" in name or "scale" in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


@pytest.mark.parametrize("opset", OPSETS)
def test_model_is_static_and_has_no_nms(opset):
    torch.manual_seed(0)
    network = _random_statistics(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 96, 96, 3)))
    model = onnx.load_model_from_string(export_onnx(network, opset))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    operators = {node.op_type for node in model.graph.node}
    assert operators <= KNOWN_OPERATORS, operators - KNOWN_OPERATORS
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    cells = 3 * (3 * 3 + 6 * 6)
    assert shapes == {"images": [1, 3, 96, 96], "boxes": [1, cells, 4], "scores": [1, cells, 3]}


def test_same_weights_give_the_same_file(bundle, trained, skylight, tmp_path):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    done = skylight("export", trained / "experiment.yaml", "--root", trained, "--json")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_bundle_says_where_it_comes_from(bundle, trained):
    found = read_bundle(bundle)
    trial = trained / "runs/small/second" / found.provenance["trial"]
    settings = json.loads((trial / "trial.json").read_text())["settings"]
    assert found.provenance["data_hash"] == settings["data_hash"]
    assert found.provenance["settings"] == settings
    assert (found.width, found.height, found.classes, found.resize_mode) == (64, 64, ("square",), "stretch")
    assert found.masks == ((2, 3), (0, 1))
    results = [json.loads(path.read_text())["result"]["best_ap50"] for path in trial.parent.glob("*/trial.json")]
    assert found.provenance["best_ap50"] == max(results)
    assert found.parity["unmatched"] == 0
    assert found.parity["score"] <= LIMITS.score


def _trained_network(trained: Path) -> DarknetNetwork:
    trial = trained / "runs/small/second/first-f0-s0"
    network = DarknetNetwork(read_cfg(trial / "network.cfg"))
    load_weights(network, trial / "best.weights")
    return network.eval()


def test_parity_on_real_photos(facades, tmp_path):
    """Random weights, real photos of streets: the exported model departs by float rounding only."""
    from pipeline.curate import Inputs, curate, read_recipe

    root = Path(__file__).resolve().parents[2]
    curate(read_recipe(root / "datasets/facades-arch.yaml"), Inputs(facades), tmp_path / "arch")
    data = load_images(read_curated_set(tmp_path / "arch").splits["val"][:6], 160, 160, "stretch")
    torch.manual_seed(0)
    network = _random_statistics(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 160, 160, 1)))
    found = check_parity(network, export_onnx(network), data, ("Arch",))
    print(found)
    assert found.pictures == 6
    assert found.score < 1e-5


def test_swapped_colours_are_caught(trained):
    network = _trained_network(trained)
    data = load_images(read_curated_set(trained / "squares").splits["val"], 64, 64, "stretch")
    swapped = _trained_network(trained)
    with torch.no_grad():
        weight = swapped.weighted(0).weight
        weight.copy_(weight.flip(1))
    with pytest.raises(UserError, match=r"PyTorch and ONNX Runtime differ: score .*; the limit is 0.0001"):
        check_parity(network, export_onnx(swapped), data, ("square",))


def test_slightly_moved_boxes_are_caught(trained):
    network = _trained_network(trained)
    data = load_images(read_curated_set(trained / "squares").splits["val"], 64, 64, "stretch")
    model = onnx.load_model_from_string(export_onnx(network))
    for node in model.graph.node:
        node.output[:] = ["raw_boxes" if name == "boxes" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Add", ["raw_boxes", "shift"], ["boxes"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.1], np.float32), "shift"))
    with pytest.raises(UserError, match=r"differ: box 0\.1.*; the limit is 0.05"):
        check_parity(network, model.SerializeToString(), data, ("square",))


def test_unreadable_opset_is_refused(tmp_path):
    (tmp_path / "small.cfg").write_text(SMALL_CFG)
    network = DarknetNetwork(adapted(read_cfg(tmp_path / "small.cfg"), 64, 64, 1))
    with pytest.raises(UserError, match="opset: 17; allowed: 11, 12, 13"):
        export_onnx(network, 17)
    with pytest.raises(UserError, match=r"has no \[yolo\] layer"):
        export_onnx(DarknetNetwork(network_cfg("darknet")))


def test_export_before_training_is_refused(tmp_path, skylight):
    from drawn import write_experiment

    file = write_experiment(tmp_path)
    assert_refused(skylight("export", file, "--root", tmp_path), "trial.json", "train the trial first")
    assert not (tmp_path / "bundles").exists()


def test_weights_that_training_did_not_write_are_refused(trained, tmp_path, skylight):
    root = tmp_path / "copy"
    shutil.copytree(trained, root, ignore=shutil.ignore_patterns("bundles"))
    for weights in root.glob("runs/small/second/*/best.weights"):
        weights.write_bytes(weights.read_bytes()[:-72])
    done = skylight("export", root / "experiment.yaml", "--root", root)
    assert_refused(done, "best.weights", "not the file that training wrote")
    assert not (root / "bundles").exists()


def test_trial_of_other_settings_is_not_exported(trained, tmp_path, skylight):
    root = tmp_path / "copy"
    shutil.copytree(trained, root, ignore=shutil.ignore_patterns("bundles"))
    file = root / "experiment.yaml"
    file.write_text(file.read_text().replace("batch: 8", "batch: 4"))
    assert_refused(skylight("export", file, "--root", root), "batch=8", "batch=4")
