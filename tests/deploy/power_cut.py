"""Cuts the power before the n-th change that a process makes on disk, and takes from the disk what was not synced.

Runs as a child: it forks itself for every n until what it does comes to its end. What changes the disk past the
functions that are counted here ends it with a status of its own.

    kept     everything that was done stays, as when a process is killed
    torn     names stay, but of a file that was not synced half is gone
    lost     nothing stays that was not synced: neither content nor names
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODES = ("kept", "torn", "lost")
BYPASSED = 77

_CHANGES = ("os.rename", "os.mkdir", "os.symlink", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR


class PowerCut:
    """Stands before the functions of `os` that change what is below `root`."""

    def __init__(self, root: Path, count: int, mode: str) -> None:
        self._root, self._left, self._mode = str(root), count, mode
        self._undo: list[tuple[int, Callable[[], Any]]] = []
        self._unsynced: dict[int, tuple[str, int]] = {}
        self._is_inside = False
        self._real = {
            name: getattr(os, name)
            for name in ("open", "write", "fsync", "rename", "mkdir", "symlink", "unlink", "rmdir")
        }
        for name in self._real:
            setattr(os, name, self._guarded(name, getattr(self, "_" + name)))
        sys.addaudithook(self._audit)

    def _guarded(self, name: str, function: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            if options.get("dir_fd") is not None or self._is_inside:
                return self._real[name](*arguments, **options)
            self._is_inside = True
            try:
                return function(*[os.fspath(one) if isinstance(one, Path) else one for one in arguments], **options)
            finally:
                self._is_inside = False

        return call

    def _audit(self, event: str, arguments: tuple) -> None:
        if self._is_inside or not arguments:
            return
        is_change = event in _CHANGES or (event == "open" and bool((arguments[2] or 0) & _WRITES))
        if is_change and self._is_ours(str(arguments[0])):
            os.write(2, f"{event} {arguments[0]} is not counted\n".encode())
            os._exit(BYPASSED)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self._root)

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._cut()

    def _cut(self) -> None:
        if self._mode == "torn":
            for _, handle in self._unsynced.values():
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
        if self._mode == "lost":
            for _, handle in self._unsynced.values():
                os.ftruncate(handle, 0)
            for _, undo in reversed(self._undo):
                with contextlib.suppress(FileNotFoundError):  # its folder is gone for good
                    undo()
        os.kill(os.getpid(), signal.SIGKILL)

    def _open(self, path: str, flags: int, mode: int = 0o777, **options: Any) -> int:
        if not self._is_ours(path) or not flags & (_WRITES | os.O_CREAT):
            return self._real["open"](path, flags, mode, **options)
        is_new = not os.path.lexists(path)
        if is_new or flags & _WRITES:
            self._step()
        handle = self._real["open"](path, flags, mode, **options)
        if is_new:
            self._pend(path, lambda place: self._real["unlink"](place))
        if flags & _WRITES:
            self._unsynced[os.fstat(handle).st_ino] = (path, os.dup(handle))
        return handle

    def _write(self, handle: int, data: Any) -> int:
        if os.fstat(handle).st_ino not in self._unsynced:
            return self._real["write"](handle, data)
        self._step()
        return self._real["write"](handle, data[: max(1, len(data) // 2)] if len(data) < 1 << 10 else data)

    def _fsync(self, handle: int) -> None:
        self._step()
        inode = os.fstat(handle).st_ino
        self._unsynced.pop(inode, None)
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != inode]

    def _rename(self, source: str, target: str) -> None:
        self._step()
        is_replaced = Path(target).is_symlink() or Path(target).is_file()
        restore = _restore(target) if is_replaced else None
        self._real["rename"](source, target)

        def undo(place: str) -> None:
            self._real["rename"](place, source)
            if restore is not None:
                restore(place)

        self._pend(target, undo)

    def _mkdir(self, path: str, mode: int = 0o777) -> None:
        if not self._is_ours(path):
            self._real["mkdir"](path, mode)
            return
        self._step()
        self._real["mkdir"](path, mode)
        self._pend(path, lambda place: self._real["rmdir"](place))

    def _symlink(self, target: str, path: str, *_: Any) -> None:
        self._step()
        self._real["symlink"](target, path)
        self._pend(path, lambda place: self._real["unlink"](place))

    def _unlink(self, path: str) -> None:
        if self._is_ours(path) and os.path.lexists(path):
            self._step()
            restore = _restore(path)
            self._real["unlink"](path)
            self._pend(path, restore)
            return
        self._real["unlink"](path)

    def _rmdir(self, path: str) -> None:
        self._step()
        self._real["rmdir"](path)
        self._pend(path, lambda place: self._real["mkdir"](place))

    def _pend(self, path: str, undo: Callable[[str], Any]) -> None:
        """Remember how to undo what changed a name, until its folder, which may be renamed, is synced."""
        folder = self._real["open"](str(Path(path).parent), os.O_PATH | os.O_DIRECTORY)
        place = f"/proc/self/fd/{folder}/{Path(path).name}"
        self._undo.append((os.fstat(folder).st_ino, lambda: undo(place)))


def _restore(path: str) -> Callable[[str], Any]:
    """What brings back the link or file that lies at `path` now."""
    if Path(path).is_symlink():
        target = Path(path).readlink()
        return lambda place: Path(place).symlink_to(target)
    content = Path(path).read_bytes()
    return lambda place: Path(place).write_bytes(content)


def run_cut(root: Path, count: int, mode: str, action: Callable[[], None]) -> int:
    """Do `action` in a fork, which is cut before its change number `count`; returns how it ended, as Popen does."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            PowerCut(root, count, mode)
            action()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)
