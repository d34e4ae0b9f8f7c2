"""Published weights: what the table says of them, how they are fetched, and the masks that go with them."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
from bad_server import Answer, bad_server

from pipeline import download as download_module
from pipeline.darknet import DarknetNetwork, Header, adapted, load_weights, network_cfg, read_cfg, shipped_networks
from pipeline.darknet import known as module
from pipeline.darknet.known import (
    KNOWN_WEIGHTS,
    KnownWeights,
    fetch_known,
    known_weights,
    require_masks,
    with_known_masks,
)
from pipeline.darknet.weights import weights_bytes
from pipeline.errors import UserError

CONTENT = bytes(range(256)) * 2000
OLD_HEADERS = ("darknet19_448.conv.23",)  # written when `seen` took four bytes


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "pause", lambda attempt, wait: None)


def _served(*urls: str) -> KnownWeights:
    """An entry of the table, but for other bytes from other addresses."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return dataclasses.replace(known_weights("yolov3-tiny"), urls=urls, size=len(CONTENT), sha256=sha256)


@pytest.mark.parametrize("network", sorted({known.network for known in KNOWN_WEIGHTS}))
def test_every_size_is_what_the_cfg_takes_up_to_the_layers_that_the_file_holds(network: str) -> None:
    assert network in shipped_networks()
    layers = DarknetNetwork(network_cfg(network))
    for known in KNOWN_WEIGHTS:
        if known.network == network and known.size is not None:
            header = Header(0, 1) if known.name in OLD_HEADERS else Header()
            assert known.size == len(weights_bytes(layers, header, known.layers)), known.name


@pytest.mark.parametrize("known", KNOWN_WEIGHTS, ids=lambda known: known.name)
def test_every_entry_agrees_with_its_cfg_and_can_be_had(known: KnownWeights) -> None:
    heads = [section for section in network_cfg(known.network).layers if section.kind == "yolo"]
    assert (known.masks is None) == (not heads or known.layers is not None)
    assert known.masks is None or len(known.masks) == len(heads)
    assert known.trained_on == ("COCO" if heads else "ImageNet")
    assert known.classes == (heads[0].integer("classes") if heads else 1000)
    assert known.sha256 is None or len(bytes.fromhex(known.sha256)) == 32
    assert all(url.startswith("https://") and url.endswith(f"/{known.file}") for url in known.urls)
    if known.part_of is None:
        assert known.urls
    else:
        whole = known_weights(known.part_of)
        assert not known.urls
        assert (whole.network, whole.layers, whole.resize) == (known.network, None, known.resize)
    if known.layers is not None:
        assert known.name.endswith(f".conv.{known.layers}")


def test_weights_are_known_by_their_name_and_by_their_file() -> None:
    assert len({known.name for known in KNOWN_WEIGHTS}) == len(KNOWN_WEIGHTS)
    for known in KNOWN_WEIGHTS:
        assert known_weights(known.name) is known_weights(known.file) is known


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        known_weights("yolov9000")
    message = str(caught.value)
    assert message.startswith("weights yolov9000: unknown; give a path to a .weights file or one of darknet, ")
    assert "\n" not in message
    assert all(known.name in message for known in KNOWN_WEIGHTS)


def test_an_interrupted_download_goes_on_and_happens_once(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with bad_server({"/w": Answer(CONTENT, ["cut", 503])}) as server:
        known = _served(f"{server.url}/w")
        path = fetch_known(known, tmp_path / "new", lambda *progress: told.append(progress))
        assert path == tmp_path / "new" / "yolov3-tiny.weights"
        assert path.read_bytes() == CONTENT
        ranges = [asked for _, asked in server.asked]
        assert ranges[0] == ""
        assert ranges[1] == ranges[2] != ""
        assert fetch_known(known, tmp_path / "new") == path
        assert len(server.asked) == 3
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_mirror_is_asked_where_the_official_address_gives_nothing_or_something_else(tmp_path: Path) -> None:
    answers = {"/wrong": Answer(CONTENT[::-1]), "/mirror": Answer(CONTENT)}
    with bad_server(answers) as server:
        known = _served(f"{server.url}/gone", f"{server.url}/wrong", f"{server.url}/mirror")
        assert fetch_known(known, tmp_path).read_bytes() == CONTENT
        assert [path for path, _ in server.asked] == ["/gone", "/wrong", "/mirror"]


@pytest.mark.parametrize(
    ("content", "found"),
    [(CONTENT[:-1], rf"{len(CONTENT) - 1} bytes instead of {len(CONTENT)}"), (CONTENT[::-1], r"sha256 \w+ instead of")],
    ids=["size", "hash"],
)
def test_another_file_is_refused_from_the_server_and_from_the_user(tmp_path: Path, content: bytes, found: str) -> None:
    with bad_server({"/w": Answer(content)}) as server:
        known = _served(f"{server.url}/w")
        with pytest.raises(UserError, match=found):
            fetch_known(known, tmp_path)
        assert not list(tmp_path.iterdir())
        theirs = tmp_path / known.file
        theirs.write_bytes(content)
        with pytest.raises(UserError, match=found) as caught:
            fetch_known(known, tmp_path)
        assert str(caught.value).startswith(f"{theirs}: ")
        assert "\n" not in str(caught.value)
        assert theirs.read_bytes() == content
        assert len(server.asked) == 1


def test_a_file_that_the_user_put_there_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "yolov3-tiny.weights").write_bytes(CONTENT)
    assert fetch_known(_served("https://nowhere.invalid/w"), tmp_path).read_bytes() == CONTENT


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "yolov3-tiny.weights").mkdir()
    known = dataclasses.replace(_served("https://nowhere.invalid/w"), size=None)
    with pytest.raises(UserError, match=r"yolov3-tiny\.weights: Is a directory; remove it"):
        fetch_known(known, tmp_path)


def test_the_part_that_nobody_published_is_cut_out_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = DarknetNetwork(network_cfg("yolov3-tiny"))
    content = weights_bytes(network, Header(0, 2, 0, seen=32_013_312))
    with bad_server({"/w": Answer(content)}) as server:
        whole = dataclasses.replace(
            known_weights("yolov3-tiny"), urls=(f"{server.url}/w",), sha256=hashlib.sha256(content).hexdigest()
        )
        part = known_weights("yolov3-tiny.conv.15")
        monkeypatch.setattr(module, "KNOWN_WEIGHTS", (whole, part))
        path = fetch_known(part, tmp_path)
        assert path.name == "yolov3-tiny.conv.15"
        assert path.read_bytes() == weights_bytes(network, Header(0, 2, 0), up_to=15)
        header, loaded = load_weights(DarknetNetwork(network_cfg("yolov3-tiny")), path)
        assert (header.seen, loaded[-1]) == (0, 14)
        assert fetch_known(part, tmp_path) == path
        assert len(server.asked) == 1


def test_masks_of_the_shipped_cfg_that_the_weights_were_not_trained_with_are_refused_in_one_line() -> None:
    cfg = network_cfg("yolov3-tiny")
    known = known_weights("yolov3-tiny")
    with pytest.raises(UserError) as caught:
        require_masks(known, cfg)
    line = cfg.text.splitlines().index("mask=0,1,2") + 1
    assert str(caught.value) == (
        f"{cfg.path}: has mask 0,1,2 where yolov3-tiny was trained with 1,2,3; write mask=1,2,3 in line {line}"
    )
    require_masks(known, with_known_masks(known, cfg))


@pytest.mark.parametrize("known", [known for known in KNOWN_WEIGHTS if known.masks], ids=lambda known: known.name)
def test_known_masks_change_the_masks_and_nothing_else(known: KnownWeights) -> None:
    cfg = adapted(network_cfg(known.network), 64, 64, 1)
    changed = with_known_masks(known, cfg)
    require_masks(known, changed)
    DarknetNetwork(changed)
    lines = zip(cfg.text.splitlines(), changed.text.splitlines(), strict=True)
    assert all(old.startswith("mask") for old, new in lines if old != new)


@pytest.mark.parametrize("name", ["yolov3", "yolov4-tiny"])
def test_the_other_shipped_cfgs_have_the_masks_of_their_weights(name: str) -> None:
    require_masks(known_weights(name), network_cfg(name))


def test_weights_without_a_head_take_any_masks() -> None:
    for name in ("yolov3-tiny.conv.15", "darknet", "darknet53.conv.74"):
        cfg = network_cfg("yolov3-tiny")
        require_masks(known_weights(name), cfg)
        assert with_known_masks(known_weights(name), cfg).text == cfg.text


def test_a_missing_mask_and_both_wrong_heads_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.cfg"
    text = network_cfg("yolov3-tiny").text.replace("mask=3,4,5\n", "").replace("mask=0,1,2", "mask=3,4,5")
    path.write_text(text)
    first, second = (text.splitlines().index("[yolo]") + 1, text.splitlines().index("mask=3,4,5") + 1)
    with pytest.raises(UserError) as caught:
        require_masks(known_weights("yolov3-tiny"), read_cfg(path))
    assert str(caught.value) == (
        f"{path}: has mask 0,1,2,3,4,5 and 3,4,5 where yolov3-tiny was trained with 3,4,5 and 1,2,3; "
        f"write mask=3,4,5 in line {first} and mask=1,2,3 in line {second}"
    )


def test_a_cfg_with_another_number_of_heads_is_refused() -> None:
    for change in (require_masks, with_known_masks):
        with pytest.raises(
            UserError, match=r"has 3 yolo heads, and yolov3-tiny has 2; use a cfg made from yolov3-tiny"
        ):
            change(known_weights("yolov3-tiny"), network_cfg("yolov3"))
