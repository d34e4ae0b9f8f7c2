"""The doctor's look at what is ours: trusted keys, settings, the current bundle, its engine, the service."""

import json
from pathlib import Path
from typing import Any, Dict, List

from deploy.engine_cache import EngineKey, find_engine, l4t_release, note_of
from deploy.engines import ENGINES, engine_folder
from deploy.errors import UserError
from deploy.life.checks import OK, PROBLEM, WARNING, Check, Machine, Outcome, has_user, run_python, run_tool
from deploy.life.store import CURRENT, linked, list_bundles, read_notes
from deploy.signature import TRUSTED, trusted_keys
from deploy.tensorrt import BUILDER

SERVICE = "skylight-detect.service"

_UNITS = ("/etc/systemd/system/", "/lib/systemd/system/", "/usr/lib/systemd/system/")

_REFUSED = 3
_READ_SETTINGS = """
import json, sys
sys.path.insert(0, {!r})
from pathlib import Path
from deploy.drone_settings import SECTIONS
from deploy.errors import UserError
from deploy.settings import read_settings
try:
    network = read_settings(Path({!r}), SECTIONS)["network"]
    print(json.dumps([network.backend, network.engines]))
except UserError as error:
    print(error)
    sys.exit(3)
"""


def check_keys(machine: Machine) -> List[Check]:
    """Whose bundles are taken."""
    folder = machine.trusted if machine.trusted is not None else machine.path(str(TRUSTED))
    if not folder.exists() and machine.trusted is None:
        remedy = "copy NAME.pub of skylight keys new into {}".format(TRUSTED)
        return [Check("trusted keys", WARNING, "none: any bundle is taken, whoever made it", remedy)]
    try:
        keys = trusted_keys(folder) or ()
    except UserError as error:
        return [_refused("trusted keys", error)]
    return [Check("trusted keys", OK, ", ".join("{} ({})".format(key.name, key.fingerprint[:8]) for key in keys))]


def check_settings(machine: Machine) -> List[Check]:
    """The file is read as the loop reads it."""
    if not machine.settings.exists():
        remedy = "copy jetson/package/skylight-detect.ini there, where another camera or autopilot is wanted"
        return [Check("settings", WARNING, "{} is not there: every default holds".format(machine.settings), remedy)]
    outcome = _read_settings(machine)
    if outcome.status == _REFUSED:
        return [_refused("settings", UserError(outcome.output.strip()))]
    if outcome.status != 0:
        return [Check("settings", WARNING, "could not be checked: " + outcome.ending, "mend what is above first")]
    return [Check("settings", OK, str(machine.settings))]


def check_bundle(machine: Machine) -> List[Check]:
    """The current bundle is whole and signed, and started well."""
    if machine.bundle is None:
        return [Check("bundle", PROBLEM, machine.bundle_problem, "skylight-detect install BUNDLE")]
    name = linked(machine.store, CURRENT) or machine.bundle.root.name
    notes = read_notes(machine.store)
    trust = machine.bundle.signature
    checks = [Check("bundle", OK, "{}, {}".format(name, trust.text))]
    if trust.trusted_as is None:
        remedy = "copy NAME.pub of its maker into {}".format(TRUSTED)
        checks = [Check("bundle", WARNING, "{}, {}".format(name, trust.text), remedy)]
    if notes.started == name and notes.starts > 1:
        remedy = "journalctl -u {} -e".format(SERVICE)
        checks.append(Check("starts", WARNING, "{} in a row did not last".format(notes.starts), remedy))
    for one in list_bundles(machine.store):
        if one.failed is not None:
            remedy = "journalctl -u {}; installing it again gives it a new chance".format(SERVICE)
            checks.append(Check("bundles", WARNING, "{} is marked: {}".format(one.folder, one.failed), remedy))
    return checks


def check_engine(machine: Machine) -> List[Check]:
    """An engine that was built fits the current bundle, this TensorRT and this Jetson Linux.

    It lies where the settings say, and is needed only where they let TensorRT fly.
    """
    if machine.bundle is None or not machine.wanted("tensorrt"):
        return [Check("engine", OK, "none needed")]
    backend, engines_folder = "auto", str(ENGINES)
    if machine.settings.exists():
        outcome = _read_settings(machine)
        if outcome.status != 0:
            value = "not looked for: the settings, which say where it is, cannot be read"
            return [Check("engine", WARNING, value, "mend what is above first")]
        backend, engines_folder = json.loads(outcome.output)
    if backend not in ("auto", "tensorrt"):
        return [Check("engine", OK, "none needed: the settings say backend = {}".format(backend))]
    folder = engine_folder(machine.path(engines_folder), machine.bundle)
    engines = sorted(folder.glob("*.engine"))
    if not engines:
        remedy = "nothing to do: the first start builds it, which takes minutes"
        return [Check("engine", WARNING, "none built in {}".format(folder), remedy)]
    outcome = run_python(machine, "import tensorrt as t; print(t.__version__)")
    version = outcome.output.strip() if outcome.status == 0 else None
    return [_check_engine(machine, engine, version) for engine in engines]


def check_service(machine: Machine) -> List[Check]:
    """The service is there, starts by itself, runs, has its user, and is watched."""
    told = run_tool(machine, "systemctl", "show", SERVICE)
    if told is None:
        units = [folder + SERVICE for folder in _UNITS if machine.path(folder + SERVICE).exists()]
        value = "systemd does not answer" + ("; {} is there".format(units[0]) if units else "")
        return [Check("service", WARNING, value, "look with systemctl status " + SERVICE)]
    about = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    if about.get("LoadState") != "loaded":
        value = about.get("LoadState", "unknown")
        return [Check("service", WARNING, value, "install it: docs/drone.md, The service")]
    return [_check_state(about), _check_watchdog(about), _check_user(machine, about)]


def _read_settings(machine: Machine) -> Outcome:
    """Read them in a child: that imports numpy and OpenCV, which may be what is wrong here.

    It prints backend and folder of the engines, as JSON, or ends with _REFUSED and the error.
    """
    return run_python(machine, _READ_SETTINGS.format(str(Path(__file__).resolve().parents[2]), str(machine.settings)))


def _check_engine(machine: Machine, engine: Path, version: Any) -> Check:
    """The key beside it, with what is known of this machine in its place, must find the engine."""
    assert machine.bundle is not None
    remedy = "nothing to do: the next start builds it again, which takes minutes"
    try:
        key = EngineKey(**json.loads(note_of(engine).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return Check("engine", WARNING, "{}: its note cannot be read".format(engine.name), remedy)
    hashes = {model.file: machine.bundle.files[model.file].sha256 for model in machine.bundle.models}
    name = engine.name.rsplit("-", 1)[0] + ".onnx"
    l4t = l4t_release(machine.path("/etc/nv_tegra_release"))
    key = key._replace(onnx_sha256=hashes.get(name, "no model " + name), l4t=l4t, builder=BUILDER)
    if version is not None:
        key = key._replace(version=version)
    found = find_engine(engine, key)
    if found.sha256 is None:
        return Check("engine", WARNING, "{}: {}".format(engine.name, found.reason), remedy)
    return Check("engine", OK, "{} is fresh".format(engine.name))


def _check_state(about: Dict[str, str]) -> Check:
    state, enabled = about.get("ActiveState", ""), about.get("UnitFileState", "")
    value = "{} ({}), {}, restarted {} times".format(
        state, about.get("SubState", ""), enabled or "not enabled", about.get("NRestarts", "0")
    )
    if state == "failed" or about.get("Result", "success") != "success":
        remedy = "journalctl -u {0} -e says why; after that, systemctl restart {0}".format(SERVICE)
        return Check("service", PROBLEM, "{}: {}".format(value, about.get("Result", "")), remedy)
    if state == "activating" and about.get("NRestarts", "0") not in ("0", ""):
        return Check("service", PROBLEM, value, "journalctl -u {} -e says why it ends again and again".format(SERVICE))
    if enabled != "enabled":
        return Check("service", WARNING, value, "sudo systemctl enable --now " + SERVICE)
    if state not in ("active", "activating"):
        return Check("service", WARNING, value, "sudo systemctl start " + SERVICE)
    return Check("service", OK, value)


def _check_watchdog(about: Dict[str, str]) -> Check:
    limit = about.get("WatchdogUSec", "0")
    if about.get("Type") == "notify" and limit not in ("0", "infinity", ""):
        return Check("watchdog", OK, limit)
    value = "off (Type={}, WatchdogUSec={})".format(about.get("Type", ""), limit)
    return Check("watchdog", WARNING, value, "use the unit file as it comes: Type=notify and WatchdogSec=10")


def _check_user(machine: Machine, about: Dict[str, str]) -> Check:
    user = about.get("User", "")
    if user in ("", "root"):
        return Check("service user", WARNING, user or "root", "run it as a user of its own: User=skylight")
    if not has_user(machine, user):
        return Check("service user", PROBLEM, user + " is unknown", "sudo useradd --system {}".format(user))
    return Check("service user", OK, user)


def _refused(name: str, error: UserError) -> Check:
    """The error's own text ends with its remedy."""
    value, _, remedy = str(error).rpartition("; ")
    return Check(name, PROBLEM, value or str(error), remedy if value else "")
