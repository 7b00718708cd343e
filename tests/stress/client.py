"""Many connections in one thread: an epoll loop that plays scripts and checks every answer.

A request that was sent completely must get its one right answer, unless the client leaves, or the server has
said before, by ``Connection: close`` or by breaking off an answer, that the connection takes no more. Those
that come behind such an end are declined and go out again on a new connection; that the application has seen
none of them shows in its record. A connection that ends in any other way with requests on it has lost them.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.stress.answers import AnswerReader, Malformed, wrong
from tests.stress.script import ENDERS, KILLERS, Ask, Batch, Piece, Script, again

RECEIVE_BYTES: Final = 256 * 1024
STUCK_S: Final = 30.0
HISTORY: Final = 24
MOST_FAILURES: Final = 50
_RESET: Final = struct.pack("ii", 1, 0)
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


@dataclass(frozen=True, slots=True)
class Failure:
    """What must not happen, with what the connection went through before."""

    what: str
    script: int
    history: tuple[str, ...]

    def __str__(self) -> str:
        return f"connection {self.script}: {self.what}\n" + "\n".join(f"    {line}" for line in self.history)


@dataclass(slots=True)
class Tally:
    """What happened. ``counts`` are by name; ``answered`` are right answers."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)


class StressClient:
    """Plays ``scripts`` against ``address``, so many at a time as ``connections`` says. ``each_turn`` is
    called some times a second.
    """

    def __init__(
        self,
        address: Any,
        scripts: Iterator[Script],
        *,
        connections: int,
        each_turn: Callable[[], None] = lambda: None,
        keepalive_s: float = 2.0,
        seen: Callable[[Ask], None] = lambda ask: None,
    ) -> None:
        self.address = address
        self.tally = Tally()
        self.keepalive_s = keepalive_s
        self.seen = seen
        self.poller = select.epoll()
        self.stopped = False
        self.thinking = 0  # lines that pause between requests; others take their turn meanwhile
        self._scripts = scripts
        self._again: deque[Script] = deque()
        self._connections = connections
        self._each_turn = each_turn
        self._lines: dict[int, _Line] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self) -> Tally:
        """Until all scripts are played."""
        next_turn_s = 0.0
        while True:
            self._open_lines()
            if not self._lines:
                self._open_lines()
                if not self._lines:
                    break
            now_s = time.monotonic()
            if now_s >= next_turn_s:
                next_turn_s = now_s + 0.1
                self._each_turn()
                self._find_stuck(now_s)
                if len(self.tally.failures) >= MOST_FAILURES:
                    self._give_up()
                    break
            wait_s = min(self._timers[0][0] if self._timers else next_turn_s, next_turn_s) - now_s
            for fd, mask in self.poller.poll(max(0.0, wait_s), 64):
                line = self._lines.get(fd)
                if line is not None:
                    line.on_ready(mask)
            now_s = time.monotonic()
            while self._timers and self._timers[0][0] <= now_s:
                heapq.heappop(self._timers)[2]()
        self.poller.close()
        return self.tally

    def stop(self) -> None:
        """The server ends now: no new connections, and what is not answered must not have been called."""
        self.stopped = True
        self._scripts = iter(())

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call it then."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), call))

    def leave(self, line: _Line, leftover: list[Ask]) -> None:
        """A connection is closed. ``leftover`` go out again on a new one."""
        del self._lines[line.fd]
        if self.stopped:
            self.forgo(leftover)
        elif leftover:
            self.tally.counts["reconnects"] += 1
            self._again.append(again(line.script.serial, leftover))

    def forgo(self, asks: list[Ask]) -> None:
        """Requests that were not answered by a server that ends."""
        for ask in asks:
            self.tally.counts["not answered by a server that ends"] += 1
            ask.fate = "must not be called"
            self.seen(ask)

    def fail(self, line: _Line, what: str) -> None:
        """Note what must not happen."""
        self.tally.failures.append(Failure(what, line.script.serial, tuple(line.history())))

    def _open_lines(self) -> None:
        while self.stopped and self._again:
            self.forgo(self._again.popleft().asks)
        while len(self._lines) - self.thinking < self._connections:
            script = self._again.popleft() if self._again else next(self._scripts, None)
            if script is None:
                return
            line = _Line(self, script)
            self._lines[line.fd] = line
            line.begin()

    def _find_stuck(self, now_s: float) -> None:
        for line in list(self._lines.values()):
            if now_s - line.moved_s > STUCK_S:
                self.fail(line, f"nothing has happened for {STUCK_S:g} s; {line.waiting_for()}")
                line.abandon()

    def _give_up(self) -> None:
        for line in list(self._lines.values()):
            line.abandon()


class _Line:
    """One connection that plays one script."""

    def __init__(self, client: StressClient, script: Script) -> None:
        self.client = client
        self.script = script
        self.moved_s = time.monotonic()
        self.sock = socket.socket(socket.AF_UNIX if isinstance(client.address, str) else socket.AF_INET)
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        if script.slow is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        if not isinstance(client.address, str):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answered_s = self.moved_s
        self._open = True
        self._reader = AnswerReader()
        self._batches = deque(script.batches)
        self._batch: Batch | None = None
        self._pieces: deque[Piece] = deque()
        self._begun = False  # a byte of the batch has been sent
        self._asks: deque[Ask] = deque()  # sent, or being sent, and not answered
        self._mask = 0
        self._blocked = False  # waits for room to send
        self._paused = False  # a slow reader's pause
        self._timer = 0  # the number of the last timer for sending; others have been overtaken
        self._ending = False  # the server has said that it takes no more
        self._parting = False  # nothing more is to come but the end
        self._continued = False
        self._thinks = False
        self._last_bytes = 0  # of the last batch's last answer, while the script is to leave within it
        self._history: deque[tuple[float, str, object]] = deque(maxlen=HISTORY)

    # -- for the client --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Connect and start."""
        self._note("connects", "")
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(self.client.address)
        self._mask = _IN
        self.client.poller.register(self.fd, _IN)
        self._next_batch()

    def history(self) -> list[str]:
        """What this connection went through, for people."""
        if not self._history:
            return []
        with contextlib.suppress(OSError):
            self._note("its own address is", self.sock.getsockname())
        start_s = self._history[0][0]
        return [f"{1000 * (when_s - start_s):9.1f} ms {what} {of}" for when_s, what, of in self._history]

    def waiting_for(self) -> str:
        """For the report of a connection that is stuck."""
        asked = ", ".join(f"{ask.number} {ask.kind}" for ask in self._asks)
        return f"unanswered: {asked or 'nothing'}; unsent pieces: {len(self._pieces)}; {self._reader.shown()}"

    def abandon(self) -> None:
        """Close it, whatever it does."""
        self._lose("abandoned")
        self._rest()
        self._close([])

    def on_ready(self, mask: int) -> None:
        """The socket is ready, for writing first: what is read may end the script."""
        if mask & _OUT and self._blocked:
            self._blocked = False
            self._watch()
            self._send()
        if self._open and mask & ~_OUT and not self._paused:
            self._receive()

    # -- sending ---------------------------------------------------------------------------------------

    def _next_batch(self) -> None:
        if not self._batches:
            self._part()
            return
        batch = self._batches[0]
        if batch.think_s and self._batch is not None:
            think_s, batch.think_s = batch.think_s, 0.0
            self.moved_s += think_s
            self._thinks = True
            self.client.thinking += 1
            self._note("thinks for", f"{think_s:.3f} s")
            self._set_timer(think_s, self._next_batch)
            return
        if self._thinks or self.script.slow:
            self._end_thinking()
            if self._readable():  # as a client does before it uses a connection again after a while
                self._receive()
                return
        self._batches.popleft()
        self._batch = batch
        self._begun = self._continued = False
        self._asks.extend(batch.asks)
        self._pieces.extend(batch.pieces)
        self._last_bytes = 0
        self._send()

    def _end_thinking(self) -> None:
        self.client.thinking -= self._thinks
        self._thinks = False

    def _send(self, waited: bool = False) -> None:
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            if piece.behind_continue and not self._continued:
                return
            if piece.pause_s and not waited:
                self._set_timer(piece.pause_s, lambda: self._send(True))
                return
            waited = False
            try:
                sent = self.sock.send(piece.data)
            except BlockingIOError:
                self._block()
                return
            except OSError as error:
                # What the server said before it closed can be read still.
                self._note("cannot send:", error)
                pieces.clear()
                return
            self._begun = True
            self.moved_s = time.monotonic()
            self._history.append((self.moved_s, "sent bytes:", sent))
            if sent < len(piece.data):
                piece.data = piece.data[sent:]
                piece.pause_s = 0.0
                self._block()
                return
            pieces.popleft()
        self._sent()

    def _sent(self) -> None:
        """The batch is out."""
        script = self.script
        if self._batches:
            return
        if script.cut in ("sending", "handling"):
            if script.cut_at:
                self._set_timer(script.cut_at, self._cut)
            else:
                self._cut()
        elif script.end == "half at once" and not script.cut:
            self._half_close()

    def _block(self) -> None:
        self._blocked = True
        self._watch()

    def _set_timer(self, delay_s: float, call: Callable[[], None]) -> None:
        """Replaces the last one."""
        self._timer += 1
        number = self._timer

        def ring() -> None:
            if self._open and number == self._timer:
                call()

        self.client.later(delay_s, ring)

    # -- receiving -------------------------------------------------------------------------------------

    def _receive(self) -> None:
        slow = self.script.slow
        try:
            data = self.sock.recv(RECEIVE_BYTES if slow is None else slow[0])
        except BlockingIOError:
            return
        except OSError as error:
            self._note("cannot receive:", error)
            self._ended(str(error))
            return
        self.moved_s = time.monotonic()
        if not data:
            self._note("met the end", "")
            self._ended("")
            return
        self._history.append((self.moved_s, "received bytes:", len(data)))
        if not self._asks:
            self._spoil(f"{len(data)} bytes that nobody asked for: {data[:100]!r}")
            return
        self._reader.feed(data)
        try:
            self._take_answers()
        except Malformed as error:
            self._spoil(f"instead of the answer to {self._asks[0].number}: {error}")
            return
        if not self._open:
            return
        if self.script.cut == "reading" and not self._batches and len(self._asks) == 1 and not self._parting:
            self._last_bytes += len(data)
            if self._last_bytes >= self.script.cut_at:
                self._cut()
                return
        if slow is not None:
            self._paused = True
            self._watch()
            self.client.later(slow[1], self._go_on_reading)

    def _go_on_reading(self) -> None:
        if self._open:
            self._paused = False
            self._watch()

    def _take_answers(self) -> None:
        reader = self._reader
        while self._asks:
            ask = self._asks[0]
            answer = reader.next(head_only=ask.method == "HEAD")
            if answer is None:
                return
            if answer.status == 100:
                if not ask.expects or self._continued:
                    self.client.fail(self, f"100 Continue that {ask.number} did not ask for")
                self._continued = True
                self._send()
                continue
            if self._unsent(ask):
                self.client.fail(self, f"answer {answer.status} to {ask.number}, which is not sent yet")
            if answer.status == 503 and b"no thread left" in answer.body and answer.closes:
                # A worker whose threads all hang cannot pass on what it has read already.
                self.client.tally.counts["answered 503 by a worker whose threads hang"] += 1
                self._stop_sending(True)
                return
            self._settle(ask, wrong(ask, answer))
            if answer.closes or ask.closes:
                if not (ask.closes or ask.kind in ENDERS):
                    self.client.tally.counts["connections that the server said to end"] += 1
                    self.client.tally.counts["declined by a server that retires"] += len(self._asks)
                self._stop_sending(answer.closes)
        if not self._open:
            return
        if not reader.idle:
            self._spoil(f"bytes behind the last answer: {reader.shown()}")
        elif not self._ending:
            self._next_batch()
        elif not self._batches:
            self._part()

    def _unsent(self, ask: Ask) -> bool:
        """Whether bytes of this request are still here; a refusal may come before the rest."""
        return bool(self._pieces) and len(self._asks) == 1 and ask.fate == "answered"

    def _settle(self, ask: Ask, fault: str) -> None:
        """This request has had its answer."""
        self._asks.popleft()
        tally = self.client.tally
        self._history.append((self.moved_s, "has the answer to", ask.number))
        if fault:
            self.client.fail(self, f"request {ask.number} ({ask.kind}): {fault}")
            tally.counts["wrong"] += 1
        else:
            tally.counts["answered"] += 1
        ask.fate = "may be called" if fault else "answered"
        self._answered_s = self.moved_s
        self.client.seen(ask)

    def _stop_sending(self, said: bool) -> None:
        """Nothing more is taken on this connection."""
        if not self._ending:
            self._ending = True
            self._note("sends no more; the server has said so:", said)
        self._pieces.clear()
        self._timer += 1

    # -- ends ------------------------------------------------------------------------------------------

    def _part(self) -> None:
        """Everything is answered. Unless it just closes, the client waits for the server's end."""
        self._parting = True
        if self._ending or self.script.end == "half at once":
            return  # the end comes
        if self.script.end == "half":
            self._half_close()
        else:
            self._close([])

    def _half_close(self) -> None:
        self._note("closes its side", "")
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        """Leave."""
        self._note("leaves", "with a reset" if self.script.reset else "")
        for ask in self._asks:
            self.client.tally.counts["cut by the client"] += 1
            self.client.seen(ask)
        self._asks.clear()
        if self.script.reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close([])

    def _ended(self, error: str) -> None:
        """The server has closed its side, or reset the connection."""
        counts = self.client.tally.counts
        if self._asks:
            self._break_off(error)
            counts["declined"] += len(self._asks)
        elif self._batches and not self._ending:
            counts["idle connections closed by the server"] += 1
            # A slow reader has its answer long after the server has sent it.
            early = time.monotonic() - self._answered_s < 0.9 * self.client.keepalive_s
            if early and not self.script.slow:
                counts["idle connections closed early"] += 1
        elif error and not self._ending:
            counts["resets behind everything"] += 1
        self._close(self._rest())

    def _break_off(self, error: str) -> None:
        """The connection ended with requests on it. Those that are left behind this were declined."""
        ask = self._asks[0]
        answer = self._reader.rest()
        if answer is not None:
            self._settle(ask, wrong(ask, answer))
        elif self._ending or not self._begun:
            return
        elif ask.kind in KILLERS and error and (len(self._asks) > 1 or self._pieces):
            # Its head is lost: a reset, because of what the client had sent behind, overtook it.
            self.client.tally.counts["answers lost with a reset, as is right"] += 1
            self._settle(ask, "")
        elif not self.client.stopped:
            lost = [ask.number for ask in self._asks]
            self.client.fail(
                self, f"the server ended it ({error or 'end of file'}) without a byte of an answer to {lost}"
            )
            self._lose("lost")

    def _spoil(self, what: str) -> None:
        """Note what must not happen, and give this connection up."""
        self.client.fail(self, what)
        if self._asks:
            self._lose("spoilt")
        self._close(self._rest())

    def _lose(self, how: str) -> None:
        for ask in self._asks:
            self.client.tally.counts[how] += 1
            ask.fate = "may be called"
            self.client.seen(ask)
        self._asks.clear()

    def _rest(self) -> list[Ask]:
        """What is to go out again on another connection; who was to leave here does not come back."""
        rest = [*self._asks, *(ask for batch in self._batches for ask in batch.asks)]
        for ask in rest:
            if ask.fate != "answered":
                self.client.tally.counts["cut by the client"] += 1
                self.client.seen(ask)
        return [ask for ask in rest if ask.fate == "answered"]

    def _close(self, leftover: list[Ask]) -> None:
        self._open = False
        self._end_thinking()
        self.client.poller.unregister(self.fd)
        self.client.leave(self, leftover)
        self.sock.close()

    def _readable(self) -> bool:
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _watch(self) -> None:
        mask = (0 if self._paused else _IN) | (_OUT if self._blocked else 0)
        if mask != self._mask:
            self._mask = mask
            self.client.poller.modify(self.fd, mask)

    def _note(self, what: str, of: object) -> None:
        self._history.append((time.monotonic(), what, of))
