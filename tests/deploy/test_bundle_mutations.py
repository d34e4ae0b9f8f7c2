"""Whatever is done to a bundle, the drone refuses it in one line; only its own bytes are taken."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from colour_model import colour_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_bundle import make_key, rewrite, write_signed

from deploy.bundle import read_bundle
from deploy.errors import UserError
from deploy.onnx_file import check_onnx
from deploy.strict_json import canonical_json
from pipeline.export.keys import SigningKey

_FAST = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_NAMES = ("extra", "golden/x.png", "Model.onnx", "model.onnx.bak", ".hidden", "golden/.x", "sub/x", "mod\u0435l.onnx")
_OUTSIDE = ("../x", "/etc/passwd", "golden/../../x", "a\\..\\b", "C:\\x", "", "..", "golden/", "MODEL.onnx", "\u202ex")


@dataclass(frozen=True)
class Made:
    root: Path
    key: SigningKey
    other: SigningKey


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("mutated")
    key, other = make_key(folder / "keys", "maker"), make_key(folder / "keys", "other")
    return Made(write_signed(folder / "colours-1", key).root, key, other)


@contextmanager
def _copy(root: Path) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(shutil.copytree(root, Path(folder) / "b", symlinks=True))


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def _flip(root: Path, chance: random.Random, _made: Made) -> None:
    path = chance.choice(_files(root))
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    path.write_bytes(bytes(data))


def _cut(root: Path, chance: random.Random, _made: Made) -> None:
    path = chance.choice(_files(root))
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _lengthen(root: Path, chance: random.Random, _made: Made) -> None:
    path = chance.choice(_files(root))
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 9)))


def _remove(root: Path, chance: random.Random, _made: Made) -> None:
    chance.choice(_files(root)).unlink()


def _add(root: Path, chance: random.Random, _made: Made) -> None:
    path = root / chance.choice(_NAMES)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(chance.randbytes(3))


def _exchange(root: Path, chance: random.Random, _made: Made) -> None:
    one, other = chance.sample(_files(root), 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _link(root: Path, chance: random.Random, made: Made) -> None:
    path = chance.choice(_files(root))
    path.unlink()
    path.symlink_to(made.root / path.relative_to(root))  # the right content, from elsewhere


def _pipe(root: Path, chance: random.Random, _made: Made) -> None:
    path = chance.choice(_files(root))
    path.unlink()
    os.mkfifo(path)


def _reorder(root: Path, chance: random.Random, made: Made) -> None:
    """By its maker too: a manifest has one spelling."""
    content = json.loads((root / "bundle.json").read_bytes())
    keys = list(content)
    while keys == sorted(keys):
        chance.shuffle(keys)
    text = json.dumps({key: content[key] for key in keys}, indent=2) + "\n"
    rewrite(root, chance.choice([None, made.key]), text.encode())


def _edit(root: Path, chance: random.Random, made: Made) -> None:
    """As somebody would who has no key, or another one."""
    content = json.loads((root / "bundle.json").read_bytes())
    content[chance.choice(["score_threshold", "nms_threshold"])] = round(chance.uniform(0.01, 0.4), 4)
    rewrite(root, chance.choice([None, made.other]), canonical_json(content))


def _lead_out(root: Path, chance: random.Random, made: Made) -> None:
    content = json.loads((root / "bundle.json").read_bytes())
    name = chance.choice(_OUTSIDE)
    content["files"][name] = content["files"].pop(chance.choice(sorted(content["files"])))
    rewrite(root, made.key, canonical_json(content))


def _lie_about_a_file(root: Path, chance: random.Random, made: Made) -> None:
    content = json.loads((root / "bundle.json").read_bytes())
    about = content["files"][chance.choice(sorted(content["files"]))]
    about.update(chance.choice([{"bytes": about["bytes"] + 1}, {"bytes": 1 << 50}, {"sha256": "0" * 64}, {"x": 1}]))
    rewrite(root, made.key, canonical_json(content))


def _sign_otherwise(root: Path, chance: random.Random, made: Made) -> None:
    line = made.other.sign((root / "bundle.json").read_bytes())
    own = (root / "signature").read_bytes().split(b" ")
    other = line.split(b" ")
    mixed = [chance.choice(pair) for pair in zip(own, other, strict=True)]
    (root / "signature").write_bytes(b" ".join(other if mixed == own else mixed))


_MUTATIONS: tuple[Callable[[Path, random.Random, Made], None], ...] = (
    *(_flip, _cut, _lengthen, _remove, _add, _exchange, _link, _pipe),
    *(_reorder, _edit, _lead_out, _lie_about_a_file, _sign_otherwise),
)


@_FAST
@given(mutation=st.sampled_from(_MUTATIONS), seed=st.integers(0, 2**32))
def test_every_mutation_is_refused_in_one_line(made, mutation, seed):
    with _copy(made.root) as root:
        mutation(root, random.Random(seed), made)
        with pytest.raises(UserError) as refusal:
            read_bundle(root, [made.key.public])
        message = str(refusal.value)
        assert len(message.splitlines()) == 1
        assert message.isprintable()
        assert len(message) < 600


def test_the_bundle_itself_is_taken(made):
    """Otherwise the mutations would prove nothing."""
    with _copy(made.root) as root:
        assert read_bundle(root, [made.other.public, made.key.public]).signature.trusted_as == "maker"


def _refusal(read: Callable[[], object]) -> str:
    """What was refused; empty where it was let through. Any other exception is an error of ours."""
    try:
        read()
    except UserError as refusal:
        return str(refusal)
    return ""


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ("schema", "name", "classes", "models", "files", "anchors", "masks", "board", "score_threshold", "provenance")


@_FAST
@given(key=st.sampled_from(_KEYS), value=_JSON, where=st.sampled_from(["top", "models", "files"]))
def test_a_manifest_of_any_content_is_read_or_refused(made: Made, key: str, value: Any, where: str) -> None:
    """Even where a trusted key signed it."""
    with _copy(made.root) as root:
        content = json.loads((root / "bundle.json").read_bytes())
        if where == "models":
            content["models"][0][{"name": "file", "classes": "width"}.get(key, "precision")] = value
        elif where == "files":
            content["files"]["model.onnx"] = value
        else:
            content[key] = value
        try:
            data = canonical_json(content)
        except ValueError:
            return  # no JSON
        rewrite(root, made.key, data)
        assert _refusal(lambda: read_bundle(root, [made.key.public])).isprintable()


@_FAST
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 8))
def test_a_damaged_model_is_let_through_or_refused_but_never_crashes(tmp_path, seed, changes):
    chance = random.Random(seed)
    data = bytearray(colour_model())
    for _ in range(changes):
        place = chance.randrange(len(data))
        data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    (tmp_path / "model.onnx").write_bytes(bytes(data))
    assert _refusal(lambda: check_onnx(tmp_path / "model.onnx")).isprintable()
