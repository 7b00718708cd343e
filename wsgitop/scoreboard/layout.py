"""The shared words of a scoreboard: offsets, units, and the one writer of each.

A scoreboard is one memfd per generation, mapped by the master, the zygote and the workers as 64-bit words. It
holds ``rows`` rows; a row belongs to one worker process and consists of its process words and one block per
thread. There are no locks: every word has one writer, counters only grow while a row is in use, and text is
guarded by a sequence number that is odd while it is being written. The master zeroes a row before it gives it
to a new worker.

Units stand in the names: ``_NS`` are CLOCK_MONOTONIC nanoseconds (comparable between processes of one
machine).
"""

from __future__ import annotations

WORD_BYTES = 8

# -- process words: offsets from the start of the row ---
PID = 0  # writer: the worker, once, at boot
HEARTBEAT_NS = 1  # writer: the watchdog, each tick while requests run; 0 until the first
CONNECTIONS = 2  # writer: whoever leads. Client connections open now
ACCEPTED = 3  # writer: whoever leads. Connections accepted since boot
READY_NS = 4  # writer: the worker, when it begins to accept; 0 before that and once it retires
THREADS = 5  # writer: the worker, once, at boot
REJECTED = 6  # writer: whoever leads. Requests answered by the front door with an error, without the app
HANDOVERS = 7  # writer: the watchdog. Leaderships handed over because a request took long
MIGRATED_OUT = 8  # writer: whoever leads or keeps house. Connections passed to other workers
MIGRATED_IN = 9  # writer: whoever leads. Connections taken over from other workers
LOAD = 10  # writer: whoever leads or keeps house. Connections whose request is in hand or waits to be read;
#            behind requests that take long, as many more as a sibling has served meanwhile
DRAINED_NS = 11  # writer: whoever leads. When last nobody waited to be read
PROCESS_WORDS = 16

# -- thread words: offsets from the start of the thread's block; the writer is that thread ---
THREAD_STATE = 0  # one of THREAD_* below
REQUESTS = 1  # requests finished, whatever came of them
ERRORS = 2  # of these: answered 5xx, or cut
STARTED_NS = 3  # when the request in flight was given to the app; 0: none
TEXT_SEQUENCE = 4  # odd while the text is being written
STATUS_1XX = 5  # five words: responses by class, 1xx to 5xx
BYTES_RECEIVED = 10  # of bodies and heads
BYTES_SENT = 11
LATENCY_SUM_NS = 12  # sum over all finished requests
NATIVE_ID = 13  # the kernel's thread id
TEXT_LENGTHS = 14  # method | path << 16 | client << 32, lengths in bytes
TEXT = 16  # writer: the same thread, between two increments of TEXT_SEQUENCE
METHOD_BYTES = 16
PATH_BYTES = 176
CLIENT_BYTES = 48
TEXT_WORDS = (METHOD_BYTES + PATH_BYTES + CLIENT_BYTES) // WORD_BYTES  # 30
HISTOGRAM = 48  # BUCKETS words, see histogram.py
BUCKETS = 240
THREAD_WORDS = HISTOGRAM + BUCKETS
CLASSES = 5  # of statuses, from STATUS_1XX on

THREAD_UNUSED = 0
THREAD_IDLE = 1
THREAD_BUSY = 2  # the app runs
THREAD_WRITING = 3  # the app waits for a slow reader

assert TEXT + TEXT_WORDS <= HISTOGRAM


def row_words(threads: int) -> int:
    """Words of one row, for workers of ``threads`` threads."""
    return PROCESS_WORDS + threads * THREAD_WORDS


def board_bytes(rows: int, threads: int) -> int:
    """Size of a scoreboard in bytes."""
    return rows * row_words(threads) * WORD_BYTES
