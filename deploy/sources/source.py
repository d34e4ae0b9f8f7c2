"""What every source of frames is, and how it is asked. Knows nothing of files or cameras."""

from typing import Any, Dict, Iterator, Optional

from deploy.frame import Frame


class EndOfSource(Exception):  # noqa: N818  # no error, as StopIteration is none
    """A file or a finite stream has no more frames, or the source was closed."""


class Source:
    """Gives frames one by one: as an iterator, or through `newest`, which waits no longer than told.

    kind: "picture", "folder", "video" or "live". fps: frames per second, or None. length: frames, or None if unknown.
    dropped: frames that arrived and were never handed out.
    """

    kind = ""
    fps: Optional[float] = None
    length: Optional[int] = None
    dropped = 0
    _frames: Optional[Iterator[Frame]] = None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def newest(self, timeout: float) -> Optional[Frame]:
        """The newest frame that was not handed out yet; None where there is none within `timeout` seconds.

        A file gives its next frame, however long that takes, so that every run of it is the same.
        Raises EndOfSource behind the last frame.
        """
        if self._frames is None:
            self._frames = iter(self)
        for frame in self._frames:
            return frame
        raise EndOfSource

    def status(self) -> Dict[str, Any]:
        """JSON values for page and metrics; called from any thread."""
        return {"kind": self.kind, "dropped": self.dropped}

    def close(self) -> None:
        """Give back the camera or the file; called twice it does no harm."""
