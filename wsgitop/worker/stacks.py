"""Where the threads of this worker are: their Python stacks, for an operator who asks.

Who runs this: the watchdog, while the threads go on. It runs none of the application's code, so it asks no
loader for source text and no object for its name, and it shows no local variables, which may hold secrets.
Source files are read in a thread of its own: a file system that does not answer must not hold the watchdog
up; what is not there in time is left out.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple

import msgspec

import wsgitop
from wsgitop.channel import messages as m
from wsgitop.snapshot import printable
from wsgitop.worker.seat import Seat
from wsgitop.worker.slow_requests import CLIENT_LIMIT, METHOD_LIMIT, PATH_LIMIT, shown_path
from wsgitop.wsgi.response import Response

CALLS_SHOWN: Final = (200, 100, 60, 40, 25, 15, 8, 4, 2)
"""Calls of each thread, halved from the middle until all fit into a message."""
OWN_THREADS_SHOWN: Final = 200
FILE_LIMIT: Final = 300
NAME_LIMIT: Final = 150
CODE_LIMIT: Final = 200
READ_S: Final = 0.25
FILE_BYTES: Final = 2 * 1024 * 1024
FILES_BYTES: Final = 8 * 1024 * 1024
SERVER_THREADS: Final = "wsgitop-"
"""How the names of the server's own threads begin."""

_OWN: Final = str(Path(wsgitop.__file__).parent) + os.sep
_DEMO: Final = _OWN + "demo" + os.sep
"""The demo's site is an application."""
_STANDARD: Final = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) + os.sep for name in ("stdlib", "platstdlib")}
    | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")}
)
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_APPLICATION_CALLED: Final = Response.run.__code__


class _Place(NamedTuple):
    """A call: its code, and the line that it is at (0: not known)."""

    code: CodeType
    line: int


class _Thread(NamedTuple):
    name: str
    thread: int | None
    serves: m.Served | None
    places: list[_Place]


class Stacks:
    """Takes the stacks of ``seats`` and of the application's own threads."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats
        self._reader: threading.Thread | None = None

    def take(self, inquiry: int, thread: int | None) -> m.Stacks:
        """Those of the seat ``thread``, or all."""
        seats = [seat for seat in self._seats if thread is None or seat.index == thread]
        names = _thread_names()
        requests = [_served(seat) for seat in seats]
        frames = sys._current_frames()
        found = [
            _Thread(names.get(seat.ident, ""), seat.index, serves, _below_server(_places(frames[seat.ident])))
            for seat, serves in zip(seats, requests, strict=True)
            if seat.ident in frames
        ]
        if thread is None:
            apart = {seat.ident for seat in self._seats} | {threading.get_ident()}
            apart.add(threading.main_thread().ident or 0)  # it may not have taken its seat yet
            others = [ident for ident in sorted(frames) if ident not in apart]
            for ident in others[:OWN_THREADS_SHOWN]:
                name = names.get(ident, f"thread {ident:#x}")  # one that C code has started
                if not name.startswith(SERVER_THREADS):
                    found.append(_Thread(name, None, None, _places(frames[ident])))
        frames.clear()
        wanted: dict[str, set[int]] = {}
        for one in found:
            for place in (*one.places[: CALLS_SHOWN[0]], *one.places[-CALLS_SHOWN[0] :]):
                wanted.setdefault(place.code.co_filename, set()).add(place.line)
        return _fitting(inquiry, found, self._read(wanted))

    def _read(self, wanted: Mapping[str, set[int]]) -> Mapping[tuple[str, int], str]:
        if self._reader is not None and self._reader.is_alive():
            return {}  # it still waits for a file of the last time
        texts: dict[tuple[str, int], str] = {}
        self._reader = reader = threading.Thread(
            target=_read_lines, args=(wanted, texts), name=f"{SERVER_THREADS}sources", daemon=True
        )
        try:
            reader.start()
        except RuntimeError:  # no more threads can be had
            return {}
        reader.join(READ_S)
        return texts.copy()


# -- threads and frames --------------------------------------------------------------------------------------


def _thread_names() -> dict[int, str]:
    """By identifier. From where the properties look: a subclass may have others, which run its code."""
    found = {}
    for thread in threading.enumerate():
        ident, name = vars(thread).get("_ident"), vars(thread).get("_name")
        if ident is not None and isinstance(name, str):
            found[ident] = name
    return found


def _served(seat: Seat) -> m.Served | None:
    """What a thread works on, None if nothing, or if that changes in this moment."""
    response, request, connection, started_ns = seat.response, seat.request, seat.connection, seat.started_ns
    if response is None or request is None or connection is None or seat.response is not response:
        return None
    return m.Served(
        started_ns,
        printable(request.method, METHOD_LIMIT),
        printable(shown_path(request.target, seat.show_query), PATH_LIMIT),
        printable(connection.client.decode("utf-8", "backslashreplace"), CLIENT_LIMIT),
        max(0, time.monotonic_ns() - started_ns),
    )


def _places(innermost: FrameType) -> list[_Place]:
    """The calls of a stack, the outermost first. It goes on meanwhile: lines may be some instructions old."""
    places = []
    frame: FrameType | None = innermost
    while frame is not None:
        places.append(_Place(frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    places.reverse()
    return places


def _below_server(places: list[_Place]) -> list[_Place]:
    """Without what the server does until it calls the application; all, if it is not in there."""
    for index, place in enumerate(places):
        if place.code is _APPLICATION_CALLED:
            return places[index + 1 :] or places[index:]
    return places


def is_application(file: str) -> bool:
    """Whether code of this file is neither the standard library's, nor an installed package's, nor the
    server's.
    """
    if file.startswith("<"):  # frozen modules, and what was made of text
        return False
    if file.startswith(_OWN):
        return file.startswith(_DEMO)
    return not (file.startswith(_STANDARD) or any(part in file for part in _INSTALLED))


# -- what fits into a message --------------------------------------------------------------------------------


def _fitting(inquiry: int, threads: list[_Thread], texts: Mapping[tuple[str, int], str]) -> m.Stacks:
    known: dict[_Place, m.Call] = {}
    there = sum(len(thread.places) for thread in threads)
    while True:
        for most in CALLS_SHOWN:
            shown = [_shown(thread, most, texts, known) for thread in threads]
            dropped = there - sum(len(thread.calls) for thread in shown)
            answer = m.Stacks(inquiry, tuple(shown), dropped)
            if len(msgspec.msgpack.encode(answer)) <= m.MESSAGE_LIMIT_BYTES:
                return answer
        threads = threads[: len(threads) // 2]


def _shown(
    thread: _Thread, most: int, texts: Mapping[tuple[str, int], str], known: dict[_Place, m.Call]
) -> m.ThreadCalls:
    places: Iterable[_Place] = thread.places
    if len(thread.places) > most:
        places = (*thread.places[: most // 2], *thread.places[-(most - most // 2) :])
    calls = []
    for place in places:
        call = known.get(place)
        if call is None:
            file = place.code.co_filename
            call = known[place] = m.Call(
                _end_of(printable(file)),
                place.line,
                printable(place.code.co_qualname, NAME_LIMIT),
                texts.get((file, place.line), ""),
                is_application(file),
            )
        calls.append(call)
    return m.ThreadCalls(printable(thread.name, NAME_LIMIT), tuple(calls), thread.thread, thread.serves)


def _end_of(path: str) -> str:
    """A path that is too long, without its beginning."""
    return path if len(path) <= FILE_LIMIT else "…" + path[1 - FILE_LIMIT :]


# -- source text ---------------------------------------------------------------------------------------------


def _read_lines(wanted: Mapping[str, set[int]], texts: dict[tuple[str, int], str]) -> None:
    """Put the text of these lines into ``texts``, as far as their files are there and not too long."""
    room = FILES_BYTES
    for file, numbers in wanted.items():
        data = b"" if file.startswith("<") else _read_file(file, min(room, FILE_BYTES))
        room -= len(data)
        lines = data.splitlines()
        for number in numbers:
            if 0 < number <= len(lines):
                # Nearly all source is UTF-8; to look for a declaration of another encoding is not worth it.
                text = lines[number - 1].decode("utf-8", "backslashreplace").strip()
                texts[file, number] = printable(text.expandtabs(1), CODE_LIMIT)


def _read_file(path: str, limit_bytes: int) -> bytes:
    """A regular file of at most so many bytes; b'' for any other. To open a device may do something."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a path may hold anything, a null byte too
            return b""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):
        return b""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit_bytes:
            return b""
        with open(fd, "rb", closefd=False) as file:
            return file.read(limit_bytes)
    except OSError:
        return b""
    finally:
        os.close(fd)
