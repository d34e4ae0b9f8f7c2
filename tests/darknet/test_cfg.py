"""Reading and changing cfg files, and the one line that every mistake in one gets."""

from pathlib import Path

import pytest

from pipeline.darknet import DarknetNetwork, adapted, network_cfg, read_cfg, shipped_networks, with_options
from pipeline.errors import UserError

NET = "[net]\nwidth=64\nheight=64\n"  # three lines: the first section after it is on line 4
CONVOLUTION = "[convolutional]\nfilters=16\nsize=3\npad=1\nactivation=leaky\n"
HEAD = "[convolutional]\nfilters=24\nactivation=linear\n[yolo]\nanchors=10,14,23,27,37,58\nmask=0,1,2\nclasses=3\n"


def _write(folder: Path, text: str) -> Path:
    path = folder / "mistake.cfg"
    path.write_text(text)
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        DarknetNetwork(read_cfg(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_shipped_networks_are_these_six() -> None:
    assert shipped_networks() == ("darknet", "darknet19", "darknet53", "yolov3", "yolov3-tiny", "yolov4-tiny")


@pytest.mark.parametrize(
    ("name", "layers", "outputs"),
    [
        ("darknet", 16, [(1000, 1, 1)]),
        ("darknet19", 26, [(1000, 1, 1)]),
        ("darknet53", 78, [(1000, 1, 1)]),
        ("yolov3", 107, [(255, 13, 13), (255, 26, 26), (255, 52, 52)]),
        ("yolov3-tiny", 24, [(255, 13, 13), (255, 26, 26)]),
        ("yolov4-tiny", 38, [(255, 13, 13), (255, 26, 26)]),
    ],
)
def test_shipped_network_has_darknets_layer_count_and_output_shapes(
    name: str, layers: int, outputs: list[tuple[int, int, int]]
) -> None:
    spec = DarknetNetwork(network_cfg(name)).spec
    assert len(spec.layers) == layers
    shapes = [spec.shapes[index] for index in spec.yolo_layers or (len(spec.layers) - 1,)]
    assert [(shape.channels, shape.height, shape.width) for shape in shapes] == outputs


@pytest.mark.parametrize(
    ("body", "line", "section", "fragments"),
    [
        ("[lstm]\noutput=4\n", 4, "lstm", ["not supported", "convolutional", "yolo"]),
        ("[convolutional]\nfilter=16\n", 5, "convolutional", ["filter=16", "did you mean filters?"]),
        ("[upsample]\ncolour=red\n", 5, "upsample", ["colour=red", "accepted:", "stride"]),
        ("[convolutional]\nfilters=many\n", 5, "convolutional", ["filters=many", "an integer", "at least 1"]),
        ("[convolutional]\nfilters=0\n", 5, "convolutional", ["filters=0", "at least 1"]),
        ("[convolutional]\nstride=1.5\n", 5, "convolutional", ["stride=1.5", "an integer"]),
        ("[convolutional]\nactivation=leeky\n", 5, "convolutional", ["activation=leeky", "leaky", "mish"]),
        ("[convolutional]\nfilters=4\ngroups=2\n", 6, "convolutional", ["groups=2", "3 channels"]),
        ("[convolutional]\nbatch_normalize=2\n", 5, "convolutional", ["batch_normalize=2", "0 or 1"]),
        ("[convolutional]\nxnor=1\n", 5, "convolutional", ["xnor=1 is not supported", "xnor=0"]),
        ("[convolutional]\nsize=3\ndilation=2\n", 6, "convolutional", ["dilation=2", "pad=1"]),
        ("[convolutional]\nsize=65\n", 4, "convolutional", ["layer 0", "no pixels left"]),
        ("[maxpool]\nsize=2\npadding=3\n", 6, "maxpool", ["padding=3", "at most 2"]),
        ("[maxpool]\nmaxpool_depth=1\n", 5, "maxpool", ["maxpool_depth=1", "not supported"]),
        ("[dropout]\nprobability=1\n", 5, "dropout", ["probability=1", "below 1"]),
        ("[softmax]\ngroups=5\n", 5, "softmax", ["groups=5", "12288 inputs"]),
        ("[route]\n", 4, "route", ["has no layers", "layers=..."]),
        (f"{CONVOLUTION}[route]\nlayers=1\n", 10, "route", ["layers=1", "layer 1", "0 to 0"]),
        (f"{CONVOLUTION}[route]\nlayers=-2\n", 10, "route", ["layers=-2", "negative"]),
        (f"{CONVOLUTION}[route]\nlayers=a\n", 10, "route", ["layers=a", "integers separated by commas"]),
        (f"{CONVOLUTION}[route]\nlayers=0\ngroups=3\n", 9, "route", ["groups=3", "divide the channels"]),
        (f"{CONVOLUTION}[route]\nlayers=0\ngroups=2\ngroup_id=2\n", 9, "route", ["group_id=2 of groups=2"]),
        (f"{CONVOLUTION}[maxpool]\nstride=2\n[route]\nlayers=0,1\n", 12, "route", ["layer 0 64x64", "layer 1 32x32"]),
        (f"{CONVOLUTION}[shortcut]\nfrom=3\n", 10, "shortcut", ["from=3", "layers before it"]),
        (f"{CONVOLUTION}[shortcut]\nfrom=-1\nweights_type=per_channel\n", 11, "shortcut", ["per_channel", "none"]),
        (
            f"{CONVOLUTION}[maxpool]\nsize=2\nstride_x=2\nstride_y=1\n[shortcut]\nfrom=0\n",
            14,
            "shortcut",
            ["layer 0 64x64 to 32x64", "one factor"],
        ),
        (HEAD.replace("filters=24", "filters=21"), 10, "yolo", ["filters=24", "found 21"]),
        (HEAD.replace("mask=0,1,2", "mask=0,1,3"), 9, "yolo", ["mask=0,1,3", "from 0 to 2"]),
        (HEAD.replace("mask=0,1,2", "num=6"), 8, "yolo", ["6 anchor values for num=6", "12"]),
        (HEAD.replace("10,14", "10,x"), 8, "yolo", ["anchors=10,x", "numbers separated by commas"]),
        (f"{HEAD}iou_loss=l2\n", 11, "yolo", ["iou_loss=l2", "mse", "ciou"]),
        (f"{HEAD}ignore_tresh=.7\n", 11, "yolo", ["ignore_tresh", "did you mean ignore_thresh?"]),
    ],
)
def test_mistake_is_named_with_file_line_and_section(
    tmp_path: Path, body: str, line: int, section: str, fragments: list[str]
) -> None:
    message = _refusal(_write(tmp_path, NET + body))
    assert f"mistake.cfg:{line}: [{section}]" in message
    assert [fragment for fragment in fragments if fragment not in message] == []


@pytest.mark.parametrize(("key", "line"), [("width", 2), ("height", 3)])
def test_detector_input_must_be_a_multiple_of_32(tmp_path: Path, key: str, line: int) -> None:
    message = _refusal(_write(tmp_path, NET.replace(f"{key}=64", f"{key}=112") + HEAD))
    assert f"mistake.cfg:{line}: [net] {key}=112" in message
    assert "multiple of 32, for example 128" in message


def test_classifier_input_may_have_any_size(tmp_path: Path) -> None:
    path = _write(tmp_path, NET.replace("64", "50") + CONVOLUTION)
    assert DarknetNetwork(read_cfg(path)).spec.shapes[0].width == 50


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "has no section"),
        (b"# only a comment\n", "has no section"),
        (b"[net]\nwidth=64\nheight=64\n", "has no layer"),
        (b"[convolutional]\nfilters=8\n", "begins with [convolutional]; the first section must be [net]"),
        (b"width=64\n[net]\n", ":1: 'width=64'"),
        (b"[net\n", ":1: '[net' is no section"),
        (b"[net]\nwidth\n", ":2: 'width' is neither"),
        (b"[net]\nheight=64\n[maxpool]\n", ":1: [net] has no width"),
        (b"[net]\nwidht=64\nheight=64\n[maxpool]\n", ":2: [net] unknown option widht=64; did you mean width?"),
        (bytes(range(256)), "not a text file"),
        (bytes(20000), "neither section, option nor comment"),
    ],
)
def test_file_that_is_no_cfg_is_refused(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / "file.cfg"
    path.write_bytes(content)
    message = _refusal(path)
    assert fragment in message
    assert len(message) < 300 + len(str(path))


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in _refusal(tmp_path / "absent.cfg")
    assert "directory" in _refusal(tmp_path)


def test_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"yolov9: unknown; give a path to a \.cfg or one of darknet, .*yolov3-tiny"):
        network_cfg("yolov9")


def test_white_space_comments_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    text = "\ufeff# made on Windows\r\n [ net ]\r\nwidth = 64\r\nheight= 64\r\n\r\n; pooling\r\n[maxpool]\r\nsize=2\r\n"
    path = tmp_path / "spaced.cfg"
    path.write_bytes(text.encode())
    cfg = read_cfg(path)
    assert cfg.net.integer("width") == 64
    assert [section.kind for section in cfg.layers] == ["maxpool"]


def test_first_of_two_equal_options_counts_as_in_darknet(tmp_path: Path) -> None:
    cfg = read_cfg(_write(tmp_path, f"{NET}width=32\n[maxpool]\n"))
    assert cfg.net.integer("width") == 64
    assert with_options(cfg, {}, {"width": "96"}).net.integer("width") == 96


def test_changed_options_leave_every_other_line_as_it_was() -> None:
    cfg = network_cfg("yolov3-tiny")
    changed = with_options(cfg, {15: {"filters": "24"}, 23: {"beta_nms": ".6"}}, {"width": "224", "letter_box": "1"})
    before, after = cfg.text.splitlines(), changed.text.splitlines()
    assert [line for line in before if line not in after] == ["width=416"]
    assert [line for line in after if line not in before] == ["width=224", "letter_box=1", "filters=24", "beta_nms=.6"]
    assert len(after) == len(before) + 2
    assert changed.layers[15].integer("filters") == 24
    assert changed.layers[22].integer("filters") == 255
    assert changed.layers[23].number("beta_nms") == 0.6
    assert changed.net.integer("letter_box") == 1


def test_adapted_detector_fits_its_classes_at_every_head() -> None:
    spec = DarknetNetwork(adapted(network_cfg("yolov3"), 96, 64, 1)).spec
    assert [head.classes for head in spec.heads] == [1, 1, 1]
    assert [spec.shapes[index].channels for index in spec.yolo_layers] == [18, 18, 18]
    assert (spec.input.width, spec.input.height) == (96, 64)


def test_adapted_refuses_a_head_without_a_convolution(tmp_path: Path) -> None:
    cfg = read_cfg(_write(tmp_path, f"{NET}[yolo]\nanchors=1,1\nclasses=1\n"))
    with pytest.raises(UserError, match=r"mistake\.cfg:4: \[yolo\] follows no convolution"):
        adapted(cfg, 64, 64, 1)
