"""The verbs on bundles and keys, as a user calls them, on a bundle of trained weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn import Skylight, assert_refused

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import read_bundle
from deploy.errors import UserError
from deploy.golden import check_golden, read_golden
from deploy.strict_json import canonical_json
from pipeline.export.keys import new_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, skylight: Skylight) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "mine"
    done = skylight("keys", "new", "--name", "maker", "--folder", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def signed(trained: Path, bundle: Path, keys: Path, skylight: Skylight) -> Path:
    """A root with the bundle, signed; the shared one is left as it is."""
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    root = trained.with_name(f"{trained.name}-signed")
    shutil.copytree(trained, root)
    done = skylight("export", root / "experiment.yaml", "--root", root, "--key", keys / "maker.key")
    assert done.returncode == 0, done.stderr
    assert "signed by " in done.stdout.splitlines()[-1]
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    return root / "bundles" / "square-1"


class _RedForBlue:
    """ONNX Runtime behind a camera that gives BGR."""

    def __init__(self, model: Path) -> None:
        self._inner = OnnxRuntimeBackend(model)

    def infer(self, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._inner.infer(np.ascontiguousarray(tensor[:, ::-1]))


def test_golden_frames_of_trained_weights_notice_red_for_blue(signed):
    bundle = read_bundle(signed)
    assert read_golden(bundle).tells_red_from_blue
    assert check_golden(bundle, OnnxRuntimeBackend(bundle.model)).detections > 0
    with pytest.raises(UserError, match=r"golden/frame-\d\.png: class 0 .* on model\.onnx; fp32 allows"):
        check_golden(bundle, _RedForBlue(bundle.model))


def test_golden_frames_notice_other_weights(signed, trained, tmp_path):
    """The hashes would, too; here the engine on the board is meant."""
    from pipeline.darknet import DarknetNetwork, load_weights, read_cfg
    from pipeline.export.onnx import export_onnx
    from pipeline.networks.darknet import DarknetDetector

    trial = trained / "runs/small/first/scratch-f0-s0"
    network = DarknetNetwork(read_cfg(trial / "network.cfg"))
    load_weights(network, trial / "best.weights")
    (tmp_path / "model.onnx").write_bytes(export_onnx(DarknetDetector(network)).model)
    with pytest.raises(UserError, match=r"golden/frame-\d\.png"):
        check_golden(read_bundle(signed), OnnxRuntimeBackend(tmp_path / "model.onnx"))


def test_keys_are_private_and_never_replaced(keys, skylight):
    assert (keys / "maker.key").stat().st_mode & 0o777 == 0o600
    before = (keys / "maker.key").read_bytes()
    assert_refused(skylight("keys", "new", "--name", "maker", "--folder", keys), "maker.key", "is there already")
    assert_refused(skylight("keys", "new", "--name", "../x", "--folder", keys), "--name ../x", "no name of a key")
    assert (keys / "maker.key").read_bytes() == before
    listed = skylight("keys", "list", "--folder", keys).stdout
    assert listed == (keys / "maker.pub").read_text()
    rows = json.loads(skylight("keys", "list", "--folder", keys, "--json").stdout)
    assert [(row["name"], row["signs"]) for row in rows] == [("maker", True)]
    assert rows[0]["fingerprint"] == listed.split()[-1]
    assert "no key in" in skylight("keys", "list", "--folder", keys.parent / "none").stdout


def test_user_without_a_name_can_make_a_key(tmp_path, monkeypatch):
    """As in a container that is started with a number for its user."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert new_key(tmp_path).name == "skylight"


def test_export_signs_with_the_only_key_and_says_where_there_is_none(tmp_path, monkeypatch):
    from pipeline.export.keys import chosen_key, key_folder, new_key

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert key_folder() == tmp_path / "skylight" / "keys"
    assert chosen_key(None) is None
    made = new_key(key_folder(), "maker")
    found = chosen_key(None)
    assert found is not None
    assert found.public == made
    assert found.sign(b"x") == found.sign(b"x")
    assert "seed" not in repr(found)
    new_key(key_folder(), "other")
    with pytest.raises(UserError, match=r"holds several keys: maker\.key, other\.key; say which signs"):
        chosen_key(None)
    chosen = chosen_key(key_folder() / "maker.key")
    assert chosen is not None
    assert chosen.public == made


def test_bad_private_key_is_refused(keys, tmp_path):
    from pipeline.export.keys import read_key

    for content, message in (("", "is no private key"), ("\u0435", "is no private key"), ("x" * 5000, "is no private")):
        (tmp_path / "x.key").write_text(content)
        with pytest.raises(UserError, match=rf"x\.key: {message}"):
            read_key(tmp_path / "x.key")
    shutil.copy(keys / "maker.key", tmp_path / "x.key")
    (tmp_path / "x.key").chmod(0o644)
    with pytest.raises(UserError, match=r"other users may read it; chmod 600"):
        read_key(tmp_path / "x.key")
    with pytest.raises(UserError, match=r"y\.key: No such file"):
        read_key(tmp_path / "y.key")
    with pytest.raises(UserError, match="is no private key"):
        read_key(keys / "maker.pub")


def test_unsigned_export_says_so(trained, tmp_path, skylight, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    root = shutil.copytree(trained, tmp_path / "root")
    done = skylight("export", root / "experiment.yaml", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "NOT SIGNED: you have no key; skylight keys new makes one" in done.stdout


def test_verify_says_what_was_checked(signed, keys, tmp_path, skylight):
    (tmp_path / "trusted").mkdir()
    shutil.copy(keys / "maker.pub", tmp_path / "trusted")
    done = skylight("bundle", "verify", signed, "--trusted", tmp_path / "trusted", "--golden")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["manifest", "files", "models", "signature", "golden"]
    assert "signed by maker (" in lines[3]
    assert "model.onnx as fp32" in lines[4]
    checked = json.loads(skylight("bundle", "verify", signed, "--golden", "--json").stdout)
    assert checked["signature"]["trusted_as"] is None
    assert checked["golden"][0]["frames"] >= 1
    shutil.rmtree(tmp_path / "trusted")
    other = skylight("keys", "new", "--name", "other", "--folder", tmp_path / "trusted")
    assert other.returncode == 0, other.stderr
    refused = skylight("bundle", "verify", signed, "--trusted", tmp_path / "trusted")
    assert_refused(refused, "signature", "who is not trusted here; trusted: other")


def test_show_prints_the_chain_back_to_chance(signed, skylight):
    done = skylight("bundle", "show", signed)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    trials = [line for line in lines if line.startswith("trained as")]
    assert [line.split(",")[0].split("/")[1] for line in trials] == ["second", "first"]
    assert "from random weights, seed 0" in lines
    assert any(line.startswith("data      squares, hash ") for line in lines)
    assert any(line.startswith("exported with: ") and "onnx " in line for line in lines)
    content = json.loads(skylight("bundle", "show", signed, "--json").stdout)
    assert [step["kind"] for step in content["provenance"]["chain"]] == ["trial", "trial", "random"]
    assert content["signature"]["is_checked"]


def test_diff_says_in_words_what_changed(signed, bundle, tmp_path, skylight):
    assert "signed by" in skylight("bundle", "diff", bundle, signed).stdout
    assert skylight("bundle", "diff", signed, signed).stdout == "no difference\n"
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    (other / "signature").unlink(missing_ok=True)
    content = json.loads((other / "bundle.json").read_bytes())
    content["classes"] = ["circle"]
    content["score_threshold"] = 0.3
    content["parity"]["inputs"][0]["comparisons"][0]["box"] = 0.04
    content["provenance"]["weights_sha256"] = "f" * 64
    content["provenance"]["chain"][0]["data_hash"] = "e" * 64
    (other / "bundle.json").write_bytes(canonical_json(content))
    lines = skylight("bundle", "diff", bundle, other).stdout.splitlines()
    assert "class: square is gone" in lines
    assert "class: circle is new" in lines
    assert "score threshold: 0.25 became 0.3" in lines
    assert any(line.startswith("trained: weights: ") and line.endswith(" became ffffffffffff") for line in lines)
    assert any(line.startswith("data of second: squares ") and line.endswith("eeeeeeeeeeee") for line in lines)
    assert any(
        line.startswith("parity with ") and ", box: " in line and line.endswith(" became 0.04") for line in lines
    )
    rows = json.loads(skylight("bundle", "diff", bundle, other, "--json").stdout)
    assert {"part": "score threshold", "before": "0.25", "after": "0.3"} in rows


def test_diff_of_boards_names_each_value(bundle, tmp_path, skylight):
    from jetson.board import read_board

    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    (other / "signature").unlink(missing_ok=True)
    content = json.loads((other / "bundle.json").read_bytes())
    boards = [read_board("jetson-tx2").for_drone() for _ in range(2)]
    boards[1]["cameras"]["csi"] = "videotestsrc ! appsink"
    boards[1]["power_modes"][1]["cpu"][0]["mhz"] = 1100.0
    boards[1]["thermal"]["zones"].pop()
    for number, board in enumerate(boards):
        content["board"] = board
        (other / "bundle.json").write_bytes(canonical_json(content))
        Path(shutil.copytree(other, tmp_path / str(number)))
    lines = skylight("bundle", "diff", tmp_path / "0", tmp_path / "1").stdout.splitlines()
    assert any(line.startswith("board cameras csi: nvargus") for line in lines)
    assert "board power_modes MAXQ cpu 0 mhz: 1200 became 1100" in lines
    assert "board thermal zones thermal-fan-est name: thermal-fan-est is gone" in lines
    assert len(lines) == 3


def test_reports_of_another_maker_are_refused_in_one_line(bundle, tmp_path, skylight):
    """The drone takes such a bundle; what prints them must not fall over it."""
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    (other / "signature").unlink(missing_ok=True)
    content = json.loads((other / "bundle.json").read_bytes())
    content["provenance"] = {"chain": [{"kind": "\x1b[2J"}, 5]}
    (other / "bundle.json").write_bytes(canonical_json(content))
    for command in (("show", other), ("diff", bundle, other)):
        assert_refused(skylight("bundle", *command), "other: its provenance or parity report is not what")


def test_help_has_examples(skylight):
    for command in ("bundle", "bundle show", "bundle verify", "bundle diff", "keys", "keys new", "keys list"):
        done = skylight(*command.split(), "--help")
        assert done.returncode == 0, done.stderr
        assert "Example" in done.stdout
