"""The lines of the logs as the log page keeps them: bounded, in the order of time, filtered. No Textual.

Two logs come over one subscription. Within a log lines stay as they came; between the logs they are put in
order by the time that stands in them. Whenever a subscription begins, the last lines of its logs come again:
:class:`Overlap` finds where they meet those that are known, so that nothing is shown twice.

:meth:`LogModel.take` costs the same however many lines there are; nothing here is done for a line that cannot
be seen but reading its head and comparing it with the filter.
"""

from __future__ import annotations

import bisect
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from wsgitop.control.messages import LogLine
from wsgitop.logs.lines import head_of, is_at_least
from wsgitop.tui import figures
from wsgitop.tui.filtering import Filter

LogName = Literal["error", "access"]
LOGS: Final[tuple[LogName, ...]] = ("error", "access")
Shown = Literal["error", "access", "both"]
SHOWN: Final[tuple[Shown, ...]] = ("error", "access", "both")
"""What ``a`` steps through."""
LEAST: Final = ("", "INFO", "WARNING", "ERROR")
"""What ``v`` steps through: the least severe level that is shown, '' for all."""

KEPT: Final = 5000
"""Lines that are kept, of both logs together."""
OVERLAP_LINES: Final = 500
"""At most so many past lines come at the beginning of a subscription."""
OVERLAP_S: Final = 1.0
"""After the first of them the others have come."""
LEAST_OVERLAP: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class LogEntry:
    """One line. ``level`` is that of the line, or of the one it belongs to, '' if there is none; that of an
    access line says how the request ended. ``at`` puts the lines of both logs in order, ``number`` is that in
    which they have come. A mark says that something is missing here; ``missing`` counts the lines, as far as
    that is known.
    """

    log: LogName
    text: str
    level: str
    at: float
    number: int
    is_mark: bool = False
    missing: int = 0


class Overlap:
    """Finds where the lines that a subscription begins with meet the ``known`` ones, the last of that log.

    The past lines are a piece of the log that ends with its newest line: some that are known, up to the last
    of them, and then what is new. Lines that were under way may come before; the past lines have them, too.
    Fewer than ``least`` lines in common are chance: lines of tracebacks, for example, repeat themselves.
    """

    def __init__(self, known: Iterable[str], least: int = LEAST_OVERLAP) -> None:
        self._known = list(known)
        self._last_start = max(0, len(self._known) - least)
        self._held: list[str] = []
        self._tried = 0
        self._start = 0
        self.met = False
        """The place is found: whatever comes from here on is new."""

    def add(self, text: str) -> None:
        """The next line; it is kept back."""
        held, known = self._held, self._known
        held.append(text)
        while self._tried < len(held):
            count = len(held) - self._tried
            while self._start <= self._last_start and (
                known[self._start : self._start + count] != held[self._tried :]
            ):
                self._start += 1
            if self._start > self._last_start:  # nothing in common begins with this line
                self._tried, self._start = self._tried + 1, 0
            elif self._start + count == len(known):
                self.met = True
                held.clear()
            else:
                break

    def end(self) -> list[str]:
        """Nothing more is expected: what was kept back is new."""
        held, self._held = self._held, []
        return held


@dataclass
class _Joining:
    """The beginning of a subscription to one log. It ends at ``until``, which begins with its first line."""

    overlap: Overlap
    until: float = math.inf
    left: int = OVERLAP_LINES + 100


class LogModel:
    """``clock`` is monotonic seconds. What is drawn is :attr:`lines`, as far as it fits, from
    :meth:`position` on; ``height`` tells how many rows of the screen an entry takes."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, kept: int = KEPT) -> None:
        self._clock = clock
        self._limit = kept
        self._kept: list[LogEntry] = []
        self._lines: list[LogEntry] = []
        self._frozen: list[LogEntry] | None = None
        self._frozen_lines: list[LogEntry] = []
        self._number = self._seen = 0
        self._tails: dict[str, deque[str]] = {log: deque(maxlen=OVERLAP_LINES) for log in LOGS}
        self._levels = dict.fromkeys(LOGS, "")
        self._times: dict[str, float] = {}
        self._joining: dict[str, _Joining] = {}
        self._top = self._row = 0
        self.shown: Shown = "error"
        self.filter = ""
        self._chosen = Filter()
        self.least = ""
        self.is_following = True
        self.missed = 0
        """Lines that were too many for the way here."""

    # -- what the server sends -------------------------------------------------------------------------------

    def begin(self, logs: Iterable[LogName]) -> None:
        """A subscription to these logs begins. The last lines of each come first, and may be known."""
        for log in logs:
            self._settle(log)
            if self._tails[log]:
                self._joining[log] = _Joining(Overlap(self._tails[log]))

    def take(self, lines: Iterable[LogLine]) -> None:
        """Lines of the logs, each log's oldest first."""
        lines = tuple(lines)
        for log in LOGS:
            if log not in self._times:
                self._first_time(log, lines)
        for line in lines:
            joining = self._joining.get(line.log)
            if joining is None:
                if line.dropped:
                    self._missing(line.log, line.dropped)
                self._add(line.log, line.text)
                continue
            # What was lost before the past lines is among them.
            joining.overlap.add(line.text)
            joining.until = min(joining.until, self._clock() + OVERLAP_S)
            joining.left -= 1
            if joining.overlap.met or joining.left <= 0:
                self._settle(line.log)
        self.settle()
        self._trim()

    def settle(self) -> None:
        """Time passes: the past lines of a subscription have come by now."""
        for log, joining in [*self._joining.items()]:
            if self._clock() >= joining.until:
                self._settle(log)

    def _settle(self, log: str) -> None:
        joining = self._joining.pop(log, None)
        if joining is None:
            return
        fresh = joining.overlap.end()
        if fresh:
            name: LogName = "access" if log == "access" else "error"
            self._put(self._mark(name, "lines may be missing here"))
        for text in fresh:
            self._add(log, text)

    def _mark(self, log: LogName, text: str, missing: int = 0) -> LogEntry:
        at = self._time_of(log, "")
        return LogEntry(log, text, "", at, self._next_number(), is_mark=True, missing=missing)

    def _missing(self, log: LogName, count: int) -> None:
        self.missed += count
        last = self._kept[-1] if self._kept else None
        if last is not None and last.is_mark and last.log == log and last.missing:
            count += last.missing
            self._kept.pop()
            if self._lines and self._lines[-1] is last:
                self._lines.pop()
        self._put(self._mark(log, missing_text(count), count))

    def _add(self, log: str, text: str) -> LogEntry:
        name: LogName = "access" if log == "access" else "error"
        self._tails[name].append(text)
        if name == "access":
            level, written = access_level(text), access_time(text)
        else:
            head = head_of(text)
            if head is not None:
                self._levels[name] = head.level
            level, written = self._levels[name], head.time if head is not None else ""
        entry = LogEntry(name, text, level, self._time_of(name, written), self._next_number())
        self._put(entry)
        return entry

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _first_time(self, log: LogName, lines: Sequence[LogLine]) -> None:
        """The first lines may be the end of a record: they belong to what comes behind them."""
        written = (written_time(log, line.text) for line in lines if line.log == log)
        at = next((at for text in written if text and (at := timestamp(text)) is not None), None)
        if at is not None:
            self._times[log] = at

    def _time_of(self, log: LogName, written: str) -> float:
        """Where a line belongs between those of the other log. It never comes before its own log's last."""
        last = self._times.get(log)
        at = timestamp(written) if written else None
        if last is None:  # a log without times: as they come
            return self._kept[-1].at if self._kept else 0.0
        self._times[log] = max(last, last if at is None else at)
        return self._times[log]

    def _put(self, entry: LogEntry) -> None:
        _insert(self._kept, entry)
        if self._is_wanted(entry):
            place = _insert(self._lines, entry)
            if self._frozen is None and place <= self._top < len(self._lines) - 1:
                self._top += 1

    def _trim(self) -> None:
        excess = len(self._kept) - self._limit
        if excess <= 0:
            return
        gone = {id(entry) for entry in self._kept[:excess]}
        del self._kept[:excess]
        count = 0
        while count < len(self._lines) and id(self._lines[count]) in gone:
            count += 1
        del self._lines[:count]
        if self._frozen is None and count:
            self._row = self._row if count <= self._top else 0
            self._top = max(0, self._top - count)

    # -- what the user does ----------------------------------------------------------------------------------

    def show_log(self, shown: Shown) -> None:
        """Show this log, or both; what is kept of the other one stays."""
        self.shown = shown
        self._choose(self.lines)

    def set_filter(self, text: str) -> None:
        """Only lines with every word of ``text`` in them; with a leading ``!`` all the others."""
        if text != self.filter:
            self.filter = text
            self._chosen = Filter.parse(text)
            self._choose(self.lines)

    def step_least(self) -> str:
        """The next least severity; returns it."""
        self.least = LEAST[(LEAST.index(self.least) + 1) % len(LEAST)]
        self._choose(self.lines)
        return self.least

    def pause(self, *, paused: bool) -> None:
        """Freeze what is shown, or go on. Lines are taken all the same."""
        if paused == (self._frozen is not None):
            return
        before = self.lines
        if paused and self.is_following:
            self._seen = self._number
        self._frozen = [*self._kept] if paused else None
        self._choose(before)

    def _choose(self, before: Sequence[LogEntry]) -> None:
        """Go through all lines again; what was at the top of the screen stays there if it is still shown,
        else what follows it. ``before`` is what was shown."""
        source = self._kept if self._frozen is None else self._frozen
        anchor = before[self._top] if self._top < len(before) else None
        chosen = [entry for entry in source if self._is_wanted(entry)]
        if not self.is_following and anchor is not None:
            wanted = {id(entry): place for place, entry in enumerate(chosen)}
            later = (entry for entry in before[self._top :] if id(entry) in wanted)
            found = next(later, None)
            if found is None:
                # Nothing behind it is shown: by the time that it has.
                self._top, self._row = bisect.bisect_left(chosen, anchor.at, key=_at), 0
            else:
                self._top, self._row = wanted[id(found)], self._row if found is anchor else 0
        self._frozen_lines = [] if self._frozen is None else chosen
        live = self._frozen is None
        self._lines = chosen if live else [entry for entry in self._kept if self._is_wanted(entry)]

    def _is_wanted(self, entry: LogEntry) -> bool:
        if self.shown not in (entry.log, "both"):
            return False
        if entry.is_mark:
            return not self.filter.strip()  # between lines that were chosen it would say nothing
        if self.least and not is_at_least(entry.level, self.least):
            return False
        return self._chosen.passes(entry.text)

    # -- what is shown ---------------------------------------------------------------------------------------

    @property
    def lines(self) -> Sequence[LogEntry]:
        """All that passes, the oldest first."""
        return self._lines if self._frozen is None else self._frozen_lines

    @property
    def is_joining(self) -> bool:
        """Whether lines may be kept back, of which :meth:`settle` has to say what becomes."""
        return bool(self._joining)

    @property
    def is_paused(self) -> bool:
        return self._frozen is not None

    @property
    def fresh(self) -> int:
        """How many lines have come, of those that pass, since it stands still."""
        if self.is_following and self._frozen is None:
            return 0
        return sum(entry.number > self._seen and not entry.is_mark for entry in self._lines)

    @property
    def total(self) -> int:
        """How many lines are kept of what is shown, those that do not pass included."""
        source = self._kept if self._frozen is None else self._frozen
        if self.shown == "both":
            return len(source)
        return sum(entry.log == self.shown for entry in source)

    def position(self, page: int, height: Callable[[LogEntry], int]) -> tuple[int, int]:
        """What is at the top of a screen of ``page`` rows: the number of the entry in :attr:`lines`, and how
        many of its own rows are above."""
        last = self._last_position(page, height)
        if not self.is_following:
            return min((self._top, self._row), last)
        return last

    def scroll(self, rows: int, page: int, height: Callable[[LogEntry], int]) -> None:
        """Down by so many rows, or up (negative). Up, it does not follow any more; at the end, it does."""
        top, row = self.position(page, height)
        last = self._last_position(page, height)
        if rows < 0 and (top, row) == (0, 0):
            return
        row += rows
        while row < 0 and top > 0:
            top -= 1
            row += height(self.lines[top])
        row = max(row, 0)
        while top < len(self.lines) and row >= height(self.lines[top]):
            row -= height(self.lines[top])
            top += 1
        if (top, row) >= last:
            self.follow()
        else:
            self._stand(top, row)

    def to_start(self, page: int, height: Callable[[LogEntry], int]) -> None:
        """The oldest line."""
        if self._last_position(page, height) > (0, 0):
            self._stand(0, 0)

    def follow(self) -> None:
        """Be at the end, and stay there."""
        self.is_following = True

    def _stand(self, top: int, row: int) -> None:
        if self.is_following and self._frozen is None:
            self._seen = self._number
        self.is_following, self._top, self._row = False, top, row

    def _last_position(self, page: int, height: Callable[[LogEntry], int]) -> tuple[int, int]:
        """The position at which the last row of the last line is at the bottom."""
        left, top = page, len(self.lines)
        while top > 0 and left > 0:
            top -= 1
            left -= height(self.lines[top])
        return (top, max(0, -left))


def _at(entry: LogEntry) -> float:
    return entry.at


def _insert(entries: list[LogEntry], entry: LogEntry) -> int:
    """Put an entry behind all that are not later; returns its place."""
    if not entries or entries[-1].at <= entry.at:
        entries.append(entry)
        return len(entries) - 1
    place = bisect.bisect_right(entries, entry.at, key=_at)
    entries.insert(place, entry)
    return place


def missing_text(count: int) -> str:
    """What stands in place of lines that were lost."""
    return "1 line was missed here" if count == 1 else f"{count} lines were missed here"


# -- what a line says ----------------------------------------------------------------------------------------

_REQUEST: Final = r'"(?P<request>[^"\\]*(?:\\.[^"\\]*)*)" (?P<status>\d{3})\b'
_COMMON: Final = re.compile(
    r"(?P<client>\S+) (?P<rest>\S+ (?P<user>\S+)) \[(?P<time>[^\]]+)\] "
    + _REQUEST
    + r" (?P<size>\S+)(?P<more>.*)"
)
_STATUS: Final = re.compile(r'" (\d{3})(?: |$)|"status": ?(\d{3})\b')
_ACCESS_TIME: Final = re.compile(r'\[(\d\d/[A-Z][a-z]{2}/\d{4}:[^\]]{8,15})\]|"time": ?"([^"]{19,40})"')
_FORMS: Final = ("%Y-%m-%d %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%d %H:%M:%S")


class Parts(NamedTuple):
    """A line taken apart: time of day, level or status, process, and what it is about."""

    clock: str
    word: str
    pid: str
    text: str


def parts_of(entry: LogEntry) -> Parts:
    """A line in parts, all of it in ``text`` where it has none."""
    if entry.is_mark:
        return Parts("", "", "", entry.text)
    if entry.log == "error":
        head = head_of(entry.text)
        if head is None:
            return Parts("", "", "", entry.text)
        return Parts(clock_of(head.time), head.level, head.pid, entry.text[head.end :])
    match = _COMMON.match(entry.text)
    if match is None:
        return Parts(clock_of(access_time(entry.text)), access_status(entry.text), "", entry.text)
    user = "" if match["user"] == "-" else f" {match['user']}"
    return Parts(
        clock_of(match["time"]), match["status"], "",
        f"{match['request']}  {match['size']} B  {match['client']}{user}{match['more']}",
    )  # fmt: skip


def written_time(log: LogName, line: str) -> str:
    """The time as it stands in a line, '' if there is none."""
    if log == "access":
        return access_time(line)
    head = head_of(line)
    return "" if head is None else head.time


def access_status(line: str) -> str:
    """The status in an access line of one of the usual formats, '' if there is none."""
    match = _STATUS.search(line)
    return "" if match is None else match[1] or match[2]


def access_level(line: str) -> str:
    """How a request ended, as a level: a fault of the server, one of the client, or neither."""
    status = access_status(line)
    if not status:
        return ""
    return "ERROR" if status >= "500" else "WARNING" if status >= "400" else "INFO"


def access_time(line: str) -> str:
    """The time as it stands in an access line, '' if there is none."""
    match = _ACCESS_TIME.search(line)
    return "" if match is None else match[1] or match[2]


@lru_cache(256)
def timestamp(written: str) -> float | None:
    """Seconds since the epoch of a time as logs write it; None for anything else. Most lines have the second
    of the line before, so it is remembered."""
    for form in _FORMS:
        try:
            return datetime.strptime(written, form).astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            continue
    try:
        return datetime.fromisoformat(written).timestamp()
    except (ValueError, OverflowError):
        return None


@lru_cache(256)
def clock_of(written: str) -> str:
    """The time of day in local time, '' if there is none."""
    at = timestamp(written) if written else None
    return "" if at is None else figures.clock(at)
