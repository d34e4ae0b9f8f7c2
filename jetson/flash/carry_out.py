"""A prepared job, carried out module by module: checked again right before, run, followed, recorded."""

import re
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from deploy.errors import UserError
from jetson.flash.image import file_hash, note_system_image, system_image_note
from jetson.flash.job import Job
from jetson.flash.private import close_system_image, keep_clone, private_folder
from jetson.flash.record import Record, now
from jetson.flash.usb import USB, Found, require_still_there
from jetson.runner import Command, Runner

__all__ = ["carry_out"]

# What NVIDIA's scripts say when the module does not answer: flash.sh, l4t_initrd_flash.sh and tegraflash.py.
_REMEDIES = (
    (
        r"probing the target board failed|no devices to flash|return value 8|BootRom is not running",
        "put the module into recovery mode again (it answers once each time) and run it again",
    ),
    (r"file does not exist", "flash once without reuse, which makes system.img"),
)
_STAGE = re.compile(r"^\*\*\*|^Making |^Reusing |built successfully|Writing partition|^Waiting for target|^Flash is")
_CHIP = re.compile(r"BR_CID:\s*(0x[0-9a-fA-F]+)")


def carry_out(job: Job, usb: Path = USB, uid: int | None = None, show: Callable[[str], None] = print) -> list[Path]:
    """Flash, clone or restore the modules of a job, one after another; the paths of their records.

    Raises:
        UserError: this computer cannot, or it failed at a module; those after it were not touched.
        KeyboardInterrupt: broken off; the record says so.
    """
    if job.obstacles:
        more = f" ({len(job.obstacles) - 1} more; see --dry-run)" if len(job.obstacles) > 1 else ""
        raise UserError(job.obstacles[0] + more)
    for warning in job.warnings:
        show(f"warning: {warning}")
    records = []
    for number, found in enumerate(job.modules):
        try:
            records.append(_one(job, found, number == 0, usb, uid, show))
        except UserError as error:
            raise UserError(f"{error}{_rest(job, number)}") from None
    return records


def _one(job: Job, found: Found, is_first: bool, usb: Path, uid: int | None, show: Callable[[str], None]) -> Path:
    """Everything for one module; the path of its record."""
    commands = job.commands(found.device.instance, found.module, is_first)
    path = _free_name(job.request.records, f"{now().replace(':', '')}-{job.board.name}-{found.device.instance}")
    record = _record(job, found, commands, path.with_suffix(".log"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".log").open("w", encoding="utf-8") as log:
        runner = Runner(log, uid, _REMEDIES)
        runner.may_be_root()
        show(f"{found.module.name} at USB {found.device.instance}: {job.request.action}; log: {log.name}")
        require_still_there(found, usb)
        record.write(path)
        try:
            with _place_for_clone(job):
                for command in commands:
                    runner.run(command, _Follower(found, record, show))
                _finish(job, record, runner)
            record.result = "done"
        except KeyboardInterrupt:
            record.result, record.error = "stopped", "broken off by Ctrl-C"
            show(f"broken off: {_after(commands[-1], found)}; record: {path}")
            raise
        except BaseException as error:
            record.result, record.error = "failed", str(error)
            raise
        finally:
            close_system_image(job.image, runner)
            record.ended = now()
            record.write(path)
    show(f"{found.module.name} at USB {found.device.instance}: done; record: {path}")
    if job.request.action == "clone":
        show("it was only read; put it into recovery mode again before the next command")
    return path


class _Follower:
    """Sees what NVIDIA's scripts print: keeps what identifies the module, shows stages, stops at a wrong module."""

    def __init__(self, found: Found, record: Record, show: Callable[[str], None]) -> None:
        self._found = found
        self._record = record
        self._show = show
        self._began = time.monotonic()

    def __call__(self, line: str) -> str | None:
        chip = _CHIP.search(line)
        if chip:
            self._record.ecid = chip[1]
        if line.startswith("Board ID("):
            self._record.eeprom = line
        if _STAGE.search(line):
            self._show(f"{time.monotonic() - self._began:6.0f} s  {line.strip(' *')}")
        return self._found.eeprom_refusal(line)


def _finish(job: Job, record: Record, runner: Runner) -> None:
    """Keep what system.img holds now; give a clone its name."""
    request = job.request
    if request.action in ("write", "reuse"):
        _note(job, job.image.sha256, runner)
        return
    assert request.file is not None
    if request.action == "clone":
        keep_clone(request.file, runner)
    record.file_sha256 = file_hash(request.file)
    if request.action == "restore":
        _note(job, record.file_sha256, runner)


def _note(job: Job, holds: str, runner: Runner) -> None:
    """Keep what system.img holds, beside the image, which is root's where `make image` made it by sudo."""
    try:
        note_system_image(job.image, holds)
    except PermissionError:
        target, text = system_image_note(job.image, holds)
        with tempfile.TemporaryDirectory() as name:
            part = Path(name) / target.name
            part.write_text(text)
            words = ("install", "-m", "644", str(part), str(target.resolve()))
            runner.run(Command(words, folder=job.image.tree, as_root=True))


def _place_for_clone(job: Job) -> AbstractContextManager[object]:
    file = job.request.file
    return private_folder(file) if job.request.action == "clone" and file is not None else nullcontext()


def _record(job: Job, found: Found, commands: tuple[Command, ...], log: Path) -> Record:
    return Record(
        board=job.board.name,
        module=found.module.name,
        part=found.module.part,
        usb_instance=found.device.instance,
        usb_id=found.device.usb_id,
        serial=found.device.serial,
        action=job.request.action,
        l4t=job.image.tree_l4t,
        image=str(job.request.image),
        image_sha256=job.image.sha256,
        commands=tuple(command.line for command in commands),
        log=str(log),
        file=None if job.request.file is None else str(job.request.file),
    )


def _after(command: Command, found: Found) -> str:
    """What to do after a command was broken off."""
    where = f"the module at USB {found.device.instance}"
    if command.if_stopped:
        return f"{where} may be half-flashed; put it into recovery mode and flash it again"
    return f"{where} was only read; put it into recovery mode before the next command"


def _free_name(folder: Path, stem: str) -> Path:
    """A path for a record that is not there yet: two of one second get different names."""
    names = (f"{stem}{suffix}.json" for suffix in ("", *(f"-{number}" for number in range(2, 1000))))
    return next(folder / name for name in names if not (folder / name).exists())


def _rest(job: Job, number: int) -> str:
    """What became of the other modules."""
    if len(job.modules) == 1:
        return ""
    done = ", ".join(each.device.instance for each in job.modules[:number]) or "none"
    left = ", ".join(each.device.instance for each in job.modules[number + 1 :]) or "none"
    return f" (at USB {job.modules[number].device.instance}; done before it: {done}; not touched: {left})"
