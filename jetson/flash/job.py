"""What is to be done on which module, with which commands, and what speaks against it: decided before anything runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.errors import refuse
from jetson.board import Board, Module, read_board
from jetson.flash.host import Host, folder_bytes, host_obstacles, host_warnings, space_obstacles
from jetson.flash.image import Image, read_image, require_board, require_system_image
from jetson.flash.private import part_folder
from jetson.flash.steps import FlashSteps
from jetson.flash.usb import USB, AbsentError, Found, cable_warnings, find_module, module_named, only_target
from jetson.runner import Command

__all__ = ["Action", "Job", "Request", "job_text", "prepare"]

Action = Literal["write", "reuse", "clone", "restore"]

_GIB = 1 << 30
_WHERE = "BUS-PORT"  # in place of the USB instance where no module is connected


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        board: name or path of its file.
        image: folder of the image.
        action: write the image; reuse its system.img; clone APP into `file`; restore APP from `file`.
        module: name of the variant.
        instances: USB instances; none for the only module that is there.
        records: folder for records and logs.
        force_vm: flash from a virtual machine all the same.
    """

    board: str
    image: Path
    action: Action = "write"
    file: Path | None = None
    module: str | None = None
    instances: tuple[str, ...] = ()
    records: Path = Path("flash")
    force_vm: bool = False


@dataclass(frozen=True)
class Job:
    """All that was found out, and the commands.

    Attributes:
        module: the variant that is meant.
        modules: that were found, in the order they are taken; none in a dry run without any.
        absent: why there is none.
        obstacles: of this computer, that keep it from running the commands; warnings: that do not.
    """

    request: Request
    board: Board
    image: Image
    steps: FlashSteps
    module: Module
    modules: tuple[Found, ...]
    absent: str
    obstacles: tuple[str, ...]
    warnings: tuple[str, ...]

    def commands(self, instance: str, module: Module, is_first: bool = True) -> tuple[Command, ...]:
        """The commands for a module. is_first: whether none before it has made system.img already."""
        given = self.request.file or Path()
        steps, file = self.steps, str(given.resolve())
        action = self.request.action
        template = steps.write if action == "write" and is_first else steps.reuse
        if action == "clone" and steps.clone is not None:
            template = steps.clone
        clone = str(part_folder(given) / given.name) if action == "clone" else ""
        words = steps.words(template, usb=instance, target=module.flash_target, file=clone)
        writing = f"the module at USB {instance} is being written; stopped now, it boots no more until it is flashed."
        last = Command(words, self.image.tree, True, "" if action == "clone" else writing)
        if action != "restore" or not is_first:
            return (last,)
        target = str(self.image.system_image.relative_to(self.image.tree))
        return (
            Command(("cp", "--sparse=always", file, f"{target}.part"), self.image.tree, True),
            Command(("mv", "-f", f"{target}.part", target), self.image.tree, True),
            last,
        )


def prepare(request: Request, host: Host, usb: Path = USB, dry_run: bool = False) -> Job:
    """Check image, board and modules, and decide on the commands.

    Raises:
        UserError: image and board do not fit, or the modules that are meant could not be identified. In a dry run a
            module may be missing, but not be a wrong one or one of several.
    """
    board = read_board(request.board)
    if board.flash is None:
        raise refuse(f"board {board.name}", "is nothing that is flashed", "install on it what it needs")
    image = read_image(request.image)
    require_board(image, board)
    if request.action == "reuse":
        require_system_image(image)
    _require_file(request, board, board.flash)
    name = request.module or image.module
    named = module_named(board, name) if name else None
    modules, absent = _find(request, board, named, usb, dry_run)
    module = modules[0].module if modules else named or only_target(board, board.modules)
    obstacles = host_obstacles(board.flash, host, request.force_vm) + space_obstacles(
        _needed(request, board.flash, image)
    )
    warnings = host_warnings(board.flash, host) + [line for each in modules for line in cable_warnings(each.device)]
    return Job(request, board, image, board.flash, module, modules, absent, tuple(obstacles), tuple(warnings))


def job_text(job: Job) -> str:
    """What a dry run prints: board, image, modules, what speaks against it, and the exact commands."""
    lines = [
        f"board    {job.board.name}, {job.board.title}",
        f"image    {job.request.image}, L4T {job.image.tree_l4t}, {job.image.sha256[:12]}",
    ]
    lines += [f"module   {_described(each)}" for each in job.modules]
    if not job.modules:
        lines.append(f"module   would take {job.module.name} ({job.module.part}) as {job.module.recovery_usb}")
        lines.append(f"missing  {job.absent}")
    lines += [f"warning  {line}" for line in job.warnings]
    lines += [f"stops    {line}" for line in job.obstacles]
    lines += ["", f"in {job.request.image / job.image.tree.name}:"]
    for number, (instance, module) in enumerate(_pairs(job)):
        lines += [f"  {command.line}" for command in job.commands(instance, module, number == 0)]
    return "\n".join([*lines, "", f"records and logs go to {job.request.records}; nothing was run"])


def _find(
    request: Request, board: Board, named: Module | None, usb: Path, dry_run: bool
) -> tuple[tuple[Found, ...], str]:
    """The modules that are meant; in a dry run, where none is there, why not."""
    if len(set(request.instances)) < len(request.instances):
        raise refuse("--usb-instance", f"{','.join(request.instances)} names one twice", "name each once")
    if request.action == "clone" and len(request.instances) > 1:
        raise refuse("--usb-instance", "a clone is of one module", "name one")
    try:
        return tuple(find_module(board, named, each, usb) for each in request.instances or (None,)), ""
    except AbsentError as error:
        if dry_run:
            return (), str(error)
        raise


def _require_file(request: Request, board: Board, steps: FlashSteps) -> None:
    """Check the file of a clone: it must not be there before, and be there to be restored."""
    if request.action not in ("clone", "restore"):
        return
    if steps.without_clone is not None:
        raise refuse(f"{board.name}: --{request.action}", "not possible", steps.without_clone.strip())
    assert request.file is not None
    if request.action == "clone":
        if request.file.exists():
            raise refuse(request.file, "is there already", "give another name, or move it away")
        if not request.file.resolve().parent.is_dir():
            raise refuse(request.file.resolve().parent, "no such folder", "make it")
    elif not request.file.is_file() or request.file.stat().st_size == 0:
        raise refuse(request.file, "no such file, or empty", "give the file that --clone made")


def _needed(request: Request, steps: FlashSteps, image: Image) -> dict[Path, int]:
    """Bytes that disks must have free: for system.img as it is made and as it is kept, for a clone and its copy."""
    if request.action == "clone" and request.file is not None:
        return {image.tree: _GIB, request.file.resolve().parent: round(steps.clone_gib * _GIB)}
    if request.action == "restore" and request.file is not None:
        return {image.tree: _GIB + request.file.stat().st_size}
    return {image.tree: _GIB + (2 * folder_bytes(image.tree / "rootfs") if request.action == "write" else 0)}


def _pairs(job: Job) -> list[tuple[str, Module]]:
    return [(each.device.instance, each.module) for each in job.modules] or [(_WHERE, job.module)]


def _described(found: Found) -> str:
    serial = f"serial {found.device.serial}" if found.device.serial else "no serial number on USB"
    parts = " or ".join(module.part for module in found.variants)
    return f"{found.module.name} ({parts}) at USB {found.device.instance}, {found.device.usb_id}, {serial}"
