"""What is exported gives what was trained, and an export that does not is refused."""

import json
import shutil
from pathlib import Path

from drawn import assert_refused

from deploy.bundle import read_bundle
from pipeline.curated import read_curated_set


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_weights_give_the_same_file(bundle, trained, skylight, tmp_path):
    before = _contents(bundle)
    done = skylight("export", trained / "experiment.yaml", "--root", trained, "--json")
    assert done.returncode == 0, done.stderr
    assert _contents(bundle) == before


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
    (report,) = found.parity["inputs"]
    assert report["ap50"] > 0.3
    assert all(one["ap50"] <= 0.001 for one in report["comparisons"])
    assert {one["against"].split()[0] for one in report["comparisons"]} == {"onnxruntime", "OpenCV"}
    assert report["pictures"] == len(read_curated_set(trained / "squares").splits["val"])


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
