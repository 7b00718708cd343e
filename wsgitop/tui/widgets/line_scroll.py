"""What scrolling widgets that draw by whole lines have in common: they repaint only what differs."""

from __future__ import annotations

from textual.scroll_view import ScrollView
from textual.strip import Strip

from wsgitop.tui.widgets.canvas import repaint


class LineScroll(ScrollView):
    """Subclasses give :meth:`line` and call :meth:`repaint` when there is news. ``heading`` lines at the top
    stay where they are when it scrolls.
    """

    def __init__(self, *, heading: int = 0, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self.heading = heading
        self._seen: list[Strip] = []

    def line(self, y: int) -> Strip:
        """The line ``y`` of those that can be seen, of the full width."""
        raise NotImplementedError

    def repaint(self) -> None:
        """Repaint those of the visible lines that differ from what was drawn last."""
        lines = [self.line(y) for y in range(self.size.height)]
        before, self._seen = self._seen, lines
        repaint(self, before, lines)

    def forget(self) -> None:
        """All has to be drawn again."""
        self._seen = []
        self.refresh()

    def reveal(self, row: int) -> None:
        """Scroll as little as possible so that the row can be seen below the heading."""
        page = self.size.height - self.heading
        if row < 0 or page <= 0:
            return
        top = self.scroll_offset.y
        # By force: what has just grown has no scroll bar yet.
        if row < top:
            self.scroll_to(y=row, animate=False, immediate=True, force=True)
        elif row >= top + page:
            self.scroll_to(y=row - page + 1, animate=False, immediate=True, force=True)

    def render_line(self, y: int) -> Strip:
        line = self.line(y)
        if y < len(self._seen):
            self._seen[y] = line
        return line
