"""torchvision's classifiers behind our door: heads, files, freezing."""

from pathlib import Path

import pytest
import torch
from drawn_objects import NETWORK
from torchvision.models import get_model

from pipeline.errors import UserError
from pipeline.score.classifiers import Classifier, classifier, read_tensors


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes it, with a head of 1000 classes."""
    path = tmp_path_factory.mktemp("published") / "net.pth"
    torch.manual_seed(1)
    torch.save(get_model(NETWORK, weights=None).state_dict(), path)
    return path


def _filled(path: Path) -> Classifier:
    made = classifier(NETWORK, 3, 32)
    made.load(path, read_tensors(path)[0], with_head=False)
    return made


@pytest.mark.parametrize(
    ("name", "size", "head", "comes_last"),
    [
        ("resnet18", 32, "fc", True),
        ("mobilenet_v2", 32, "classifier.1", True),
        ("squeezenet1_1", 64, "classifier.1", False),
        ("alexnet", 64, "classifier.6", True),
    ],
)
def test_head_is_what_depends_on_the_number_of_classes(name: str, size: int, head: str, comes_last: bool) -> None:
    made = classifier(name, 3, size).eval()
    assert made.head_name == head
    images = torch.rand(2, 3, size, size)
    features = made.before_head(images)
    assert (features is not None) == comes_last
    if features is not None:
        assert torch.allclose(made.head(features), made(images), atol=1e-6)


def test_all_but_the_head_comes_from_the_file(published: Path) -> None:
    tensors = read_tensors(published)[0]
    own = _filled(published).network.state_dict()
    assert all(torch.equal(own[key], tensors[key]) for key in own if not key.startswith("fc."))
    assert own["fc.weight"].shape == (3, 1024)


def test_normalisation_is_that_of_imagenet(published: Path) -> None:
    from torchvision.transforms.functional import normalize

    made = _filled(published).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = made.network(normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    assert torch.allclose(made(images), expected, atol=1e-5)


def test_frozen_is_frozen_and_batch_norm_keeps_its_statistics(published: Path) -> None:
    made = _filled(published)
    made.freeze()
    before = {key: value.clone() for key, value in made.network.state_dict().items()}
    made.train()
    made(torch.rand(4, 3, 32, 32)).sum().backward()
    torch.optim.Adam((p for p in made.parameters() if p.requires_grad), 0.1, weight_decay=0.1).step()
    changed = {key for key, value in made.network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"fc.weight", "fc.bias"}


def _without(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key != "conv5.0.weight"}


def _broken(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"conv1.0.weight": tensors["conv1.0.weight"] * float("nan")}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, "holds no conv5.0.weight"),
        (_broken, "conv1.0.weight holds NaN"),
        (lambda tensors: tensors | {"conv1.0.weight": torch.zeros(2)}, r"conv1.0.weight is \(2,\)"),
        (lambda tensors: tensors | {"layer9.weight": torch.zeros(2)}, "layer9.weight, which is in no layer"),
        (lambda tensors: {"epoch": 3}, "holds no tensors by name"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(spoil, message, published, tmp_path):
    torch.save(spoil(torch.load(published, weights_only=True)), tmp_path / "bad.pth")
    with pytest.raises(UserError, match=message) as caught:
        _filled(tmp_path / "bad.pth")
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(UserError, match=r"bad\.pth: not readable"):
        read_tensors(tmp_path / "bad.pth")
    with pytest.raises(UserError, match="no such file"):
        read_tensors(tmp_path / "none.safetensors")


def test_published_peculiarities_are_known(tmp_path: Path) -> None:
    """GoogLeNet's file has auxiliary heads; DenseNet's has the names of an older version."""
    content = {"aux1.fc2.weight": torch.zeros(1), "features.denseblock1.denselayer1.norm.1.weight": torch.zeros(2)}
    torch.save(content, tmp_path / "old.pth")
    assert list(read_tensors(tmp_path / "old.pth")[0]) == ["features.denseblock1.denselayer1.norm1.weight"]


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(UserError, match=r"resnet99: no classifier of torchvision; allowed: .*resnet"):
        classifier("resnet99", 2, 64)
    with pytest.raises(UserError, match=r"vit_b_32: size 64: .*give another --size"):
        classifier("vit_b_32", 2, 64)
