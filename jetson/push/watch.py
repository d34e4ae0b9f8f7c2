"""Whether a drone flies a bundle well, judged from what is seen of it again and again. Asks nobody.

READY comes after the golden frames and the first turn of the loop. From then on the service must stay up, in one
process, with the page saying that what it sees is new enough, for as long as was asked.
"""

from jetson.push.questions import Look, Page

__all__ = ["Judge"]

PATIENCE = 10.0  # seconds that the page may be unwell before that counts
_LATE = " s old, limit "  # what the page says when output comes too late (deploy/web/pages.py)
_OK, _UNWELL = 200, 503


class Judge:
    """Takes looks, in order, after the service was told to start anew.

    Args:
        folder: that must fly. before: how the drone was seen before anything was done.
        seconds: that it must fly well. ready_limit: seconds in which the service must say READY.
    """

    def __init__(self, folder: str, before: Look, seconds: float, ready_limit: float) -> None:
        self._folder, self._before = folder, before
        self._seconds, self._ready_limit = seconds, ready_limit
        self._begin: float | None = None
        self._ready: float | None = None
        self._process = 0
        self._restarts: int | None = None
        self._unwell: float | None = None
        self._told: set[str] = set()
        self.is_done = False
        self.watched = 0.0

    def take(self, look: Look, now: float) -> tuple[str | None, list[str]]:
        """Judge a look at `now`, seconds of a clock that never jumps.

        Returns why the bundle failed, or None, and what is new to tell.
        """
        self._begin = now if self._begin is None else self._begin
        if look.process and look.process == self._before.process:
            problem = "the service did not start anew" if now - self._begin > self._ready_limit else None
            return problem, []
        problem = self._marked(look) or self._down(look) or self._page(look, now)
        news = [] if problem else self._news(look, now)
        if not problem and self._ready is None and now - self._begin > self._ready_limit:
            problem = f"no READY within {self._ready_limit:.0f} s ({look.active}, {look.sub})"
        self.watched = now - self._ready if self._ready is not None else 0.0
        self.is_done = problem is None and self.watched >= self._seconds > 0 and self._unwell is None
        return problem, news

    def _marked(self, look: Look) -> str | None:
        """The drone's own judgement: it marks a bundle whose starts do not last."""
        if self._folder in look.failed:
            return f"the drone marked it: {look.failed[self._folder][:200]}"
        if look.current != self._folder:
            return f"the drone went back to {look.current or 'none'} by itself"
        return None

    def _down(self, look: Look) -> str | None:
        """The service has ended, or was started again by systemd."""
        restarts = look.restarts if self._restarts is None else self._restarts
        self._restarts = min(restarts, look.restarts)
        if look.active == "failed" or look.restarts > self._restarts or look.sub == "auto-restart":
            return "the service ended and was started again" if look.active != "failed" else "the service failed"
        if self._ready is None:
            return None
        if look.active != "active":
            return f"the service is {look.active or 'not to be seen'} ({look.sub})"
        return None if look.process == self._process else "the service ended and was started again"

    def _page(self, look: Look, now: float) -> str | None:
        """Output too late is the bundle's fault; no picture, or no page, only where there was one before."""
        page, before = look.page, self._before.page
        is_unwell = (page.status == _UNWELL and (_LATE in page.text or before.status == _OK)) or (
            page.status == 0 and before.status != 0
        )
        if self._ready is None or not is_unwell:
            self._unwell = None
            return None
        self._unwell = now if self._unwell is None else self._unwell
        if now - self._unwell <= PATIENCE:
            return None
        return f"the page is unwell for more than {PATIENCE:.0f} s: {_text(page)}"

    def _news(self, look: Look, now: float) -> list[str]:
        assert self._begin is not None
        if self._ready is None and look.active == "active" and look.process:
            self._ready, self._process = now, look.process
            return [f"READY {now - self._begin:.0f} s after the start: golden frames and first turn of the loop passed"]
        if self._ready is None:
            return self._once(f"service: {look.active} ({look.sub})")
        news = self._once(f"page: {_text(look.page)}")
        if look.started == self._folder and look.starts == 0:
            news += self._once("noted on the drone as lasting")
        return news

    def _once(self, text: str) -> list[str]:
        """The text, if it was not told yet; what is told of the page changes with its status alone."""
        key = text[:20]
        if key in self._told:
            return []
        self._told.add(key)
        return [text]


def _text(page: Page) -> str:
    if page.status == 0:
        return "nobody answers; judged by service and notes alone"
    if page.status == _OK:
        return "ok"
    return f"{page.status} {page.text}" if page.status == _UNWELL else f"{page.status}, not looked at"
