"""The checks of the stress test find what they are there for: each is shown a server that does it wrong."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from tests.stress.application import answer_body
from tests.stress.client import StressClient, Tally
from tests.stress.ledger import Ledger
from tests.stress.script import Ask, Batch, Fate, Mix, Piece, Script, scripts


def ask(number: int, kind: str = "list", fate: Fate = "answered") -> Ask:
    raw = f"GET /{kind}/40/1/0/0 HTTP/1.1\r\nX-Request-Id: {number}\r\n\r\n".encode()
    return Ask(number, kind, 40, raw, len(raw), "GET", 1, False, fate=fate)


def pipelined(*asks: Ask) -> Script:
    return Script(1, [Batch(0.0, list(asks), [Piece(0.0, b"".join(one.raw for one in asks))])], end="half")


def answer(number: int, *, of: int = 0, closes: bool = False, size: int = 40) -> bytes:
    """The answer to request ``number``, with the body of another if ``of`` is given."""
    close = "Connection: close\r\n" if closes else ""
    head = (
        f"HTTP/1.1 200 OK\r\nX-Request-Id: {number}\r\nX-Body: 0:0\r\n{close}Content-Length: {size}\r\n\r\n"
    )
    return head.encode() + answer_body(b"%d" % (of or number), 40)


@contextlib.contextmanager
def server(*connections: bytes) -> Iterator[tuple[str, int]]:
    """Answers the first bytes that come on each connection with what is given, whatever they are, and closes
    it behind them; further connections at once.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            for data in chain(connections, repeat(b"")):
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(65536)
                    sock.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def play(script: Script, *connections: bytes) -> Tally:
    with server(*connections) as address:
        return StressClient(address, iter((script,)), connections=1).run()


def test_right_answers_are_right() -> None:
    tally = play(pipelined(ask(1), ask(2)), answer(1) + answer(2))
    assert not tally.failures and tally.counts == {"answered": 2}


def test_declined_requests_go_out_again() -> None:
    tally = play(pipelined(ask(1), ask(2)), answer(1, closes=True), answer(2, closes=True))
    assert not tally.failures
    assert (tally.counts["answered"], tally.counts["reconnects"]) == (2, 1)


WRONG = [
    (b"", "without a byte of an answer to \\[1, 2\\]"),
    (answer(1), "without a byte of an answer to \\[2\\]"),
    (answer(2) + answer(1), "the answer is for '2'"),
    (answer(1, of=3) + answer(2), "differing from byte 1 on"),
    (answer(1) + answer(1), "the answer is for '1'"),
    (answer(1) + answer(2) + answer(2), "bytes behind the last answer"),
    (answer(1) + answer(2, size=41), "40 bytes instead of 40, then the end"),
    (answer(1) + answer(2, size=39), "39 bytes instead of 40|bytes behind the last answer"),
    (answer(1).replace(b"200", b"500"), "status 500 instead of 200"),
    (answer(1).replace(b"0:0", b"9:9"), "the application got a body of 9:9"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", "100 Continue that 1 did not ask for"),
    (b"what?\r\n\r\n", "not a head"),
]


@pytest.mark.parametrize(("data", "what"), WRONG)
def test_what_must_not_happen_is_found(data: bytes, what: str) -> None:
    failures = play(pipelined(ask(1), ask(2)), data).failures
    assert re.search(what, "\n".join(str(failure) for failure in failures)), failures


def test_an_answer_that_fails_must_not_end_as_if_it_were_complete() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Request-Id: 1\r\nX-Body: 0:0\r\nTransfer-Encoding: chunked\r\n\r\n"
    block = b"5\r\n" + answer_body(b"1", 5) + b"\r\n"
    assert not play(pipelined(ask(1, "middle")), head + block).failures
    assert "as if it were complete" in str(
        play(pipelined(ask(1, "middle")), head + block + b"0\r\n\r\n").failures
    )


RECORDS: list[tuple[str, Fate, str]] = [
    ("C1 I1 E1", "answered", ""),
    ("C1", "may be called", ""),
    ("", "may be called", ""),
    ("", "must not be called", ""),
    ("C1 C1", "answered", "called 2 times"),
    ("C1 C1", "may be called", "called 2 times"),
    ("", "answered", "answered, but never called"),
    ("C1", "must not be called", "never sent completely"),
    ("C1 I1", "may be called", "close\\(\\) called 0 times"),
    ("C1 I1 E1 E1", "answered", "close\\(\\) called 2 times"),
    ("C1 I1 H1", "answered", ""),
    ("C1 I1 T1 E1", "answered", "more than one thread"),
]


@pytest.mark.parametrize(("record", "fate", "fault"), RECORDS)
def test_the_record_of_the_application_is_compared(
    tmp_path: Path, record: str, fate: Fate, fault: str
) -> None:
    words = record.split()
    (tmp_path / "one").write_text("".join(f"{word}\n" for word in words[::2]))
    (tmp_path / "two").write_text("".join(f"{word}\n" for word in words[1::2]))
    ledger = Ledger(1)
    ledger.put(ask(1, fate=fate))
    faults = ledger.compare(tmp_path).faults
    assert len(faults) == bool(fault) and re.search(fault, "".join(faults))


def test_the_same_seed_gives_the_same_scripts() -> None:
    def drawn(seed: int) -> list[Script]:
        return list(scripts(seed, 3000, Mix()))

    first = drawn(5)
    assert first == drawn(5) != drawn(6)
    numbers = [one.number for script in first for one in script.asks]
    assert numbers == list(range(1, 3001))
    for script in first:
        sent = b"".join(piece.data for batch in script.batches for piece in batch.pieces)
        whole = b"".join(one.raw for one in script.asks)
        assert sent == whole if script.cut != "sending" else whole.startswith(sent)
