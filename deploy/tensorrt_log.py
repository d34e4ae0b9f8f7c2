"""What TensorRT says while it builds: progress for whoever waits, errors for the message, Ctrl-C in between.

TensorRT calls these objects from C++ that lets no exception through (an exception there ends the process), so whatever
goes wrong inside is kept in `failure` and raised when the call into TensorRT is over.
"""

import re
from typing import Any, Callable, Dict, List, Optional

# What is being done, steps done, and steps in all: 0 where nobody knows.
Progress = Callable[[str, int, int], None]

# The builder times each layer with every kernel that fits, one after another, and says this line before each kind of
# kernel; it has the same form from 7 to 10 and in RTX.
_TIMING = re.compile(r"Timing Runner: (.+) \(\w")


class Listener:
    """Shared by a logger and a monitor. errors: lines of severity ERROR. failure: what a callback could not raise."""

    def __init__(self, progress: Optional[Progress]) -> None:
        self.errors: List[str] = []
        self.failure: Optional[BaseException] = None
        self._progress = progress
        self._timed = 0
        self._last_timed = ""

    def say(self, what: str, done: int, total: int) -> bool:
        """Report progress; returns whether to go on. Ctrl-C arrives here, since this is Python in the main thread."""
        if self.failure is None and self._progress is not None:
            try:
                self._progress(what, done, total)
            except BaseException as error:  # KeyboardInterrupt above all; see the module
                self.failure = error
        return self.failure is None

    def timing(self, message: str) -> None:
        """Report a layer when the builder begins to time it; further lines of the same one are left out."""
        found = _TIMING.search(message)
        if found and found.group(1) != self._last_timed:
            self._timed, self._last_timed = self._timed + 1, found.group(1)
            self.say("timing {}".format(self._last_timed), self._timed, 0)

    def raise_failure(self) -> None:
        """Raise what a callback could not, now that TensorRT is not on the stack."""
        if self.failure is not None:
            raise self.failure


def make_logger(module: Any, listener: Listener, says_layers: bool) -> Any:
    """The logger of this process, which from now on tells `listener`.

    says_layers: whether log lines are the only progress there is. NVIDIA's library keeps the first logger that it is
    given, also after Python has let go of it, and then crashes in the next build: there is one, and it stays.
    """
    logger = _LOGGERS.get(module.__name__)
    if logger is None:
        logger = _LOGGERS[module.__name__] = _logger(module)
    logger.listener, logger.says_layers = listener, says_layers
    return logger


_LOGGERS: Dict[str, Any] = {}  # by the name of the library's module


def _logger(module: Any) -> Any:
    severity = module.ILogger.Severity

    class _Logger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listener = None  # type: Optional[Listener]
            self.says_layers = False

        def log(self, level: Any, message: str) -> None:
            listener = self.listener
            if listener is None:
                return
            try:
                if level in (severity.INTERNAL_ERROR, severity.ERROR):
                    listener.errors.append(" ".join(message.split()))
                elif self.says_layers and level == severity.VERBOSE:
                    listener.timing(message)
            except BaseException as error:  # see the module
                listener.failure = listener.failure or error

    return _Logger()


def make_monitor(module: Any, listener: Listener) -> Any:
    """A progress monitor, which TensorRT has from 8.6 on; None before. It is also what lets Ctrl-C end a build."""
    if not hasattr(module, "IProgressMonitor"):
        return None

    class _Monitor(module.IProgressMonitor):
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self._steps = {}  # type: Any

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            try:
                self._steps[phase_name] = num_steps
            except BaseException as error:  # see the module
                listener.failure = listener.failure or error

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                return listener.say(phase_name, step + 1, self._steps.get(phase_name, 0))
            except BaseException as error:  # see the module
                listener.failure = listener.failure or error
                return False

        def phase_finish(self, phase_name: str) -> None:
            try:
                listener.say(phase_name, self._steps.get(phase_name, 0), self._steps.pop(phase_name, 0))
            except BaseException as error:  # see the module
                listener.failure = listener.failure or error

    return _Monitor()
