"""What is asked of the servers: a table."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.clients import Load, Request

WORK = "work:application"
HELLO = b"Hello, world!\n"
HELLO_REQUEST = Request("/")


@dataclass(frozen=True)
class Scenario:
    """One comparison.

    wsgitop takes part in every shape (workers, threads), its peers in the first. ``sleep_s`` is the time that
    a request sleeps on average, from which the limit that arithmetic sets follows; 0: none. ``idle`` and
    ``slow_heads`` are connections held meanwhile. ``log_too``: each server that has an access log takes part
    a second time, writing one.
    """

    key: str
    title: str
    load: Load
    app: str = WORK
    answer: bytes = HELLO
    shapes: tuple[tuple[int, int], ...] = ((1, 8),)
    sleep_s: float = 0.0
    idle: int = 0
    slow_heads: int = 0
    log_too: bool = False
    alone: bool = False  # only wsgitop

    @property
    def held(self) -> int:
        """Connections held beside the load's."""
        return self.idle + self.slow_heads


SCENARIOS = (
    Scenario(
        "hello", "Hello: 14 bytes, two headers", Load(HELLO_REQUEST), "hello:plain", shapes=((1, 8), (1, 1))
    ),
    Scenario("django", "Django: a view behind four middlewares", Load(HELLO_REQUEST), "djhello:application"),
    Scenario(
        "mixed",
        "Mixed: one request in 100 sleeps 50 ms, 1 × 8",
        Load(HELLO_REQUEST, Request("/sleep50"), 100),
        sleep_s=0.0005,
    ),
    Scenario(
        "hello4",
        "Hello with four workers, 4 × 1: what the next one cannot exceed",
        Load(HELLO_REQUEST),
        shapes=((4, 1),),
    ),
    Scenario(
        "mixed4",
        "Mixed: one request in 100 sleeps 50 ms, 4 × 1",
        Load(HELLO_REQUEST, Request("/sleep50"), 100),
        shapes=((4, 1),),
        sleep_s=0.0005,
    ),
    Scenario("slow", "Slow: every request sleeps 20 ms, 1 × 8", Load(Request("/sleep20")), sleep_s=0.020),
    Scenario(
        "slow4",
        "Slow: every request sleeps 20 ms, 4 × 2",
        Load(Request("/sleep20")),
        shapes=((4, 2),),
        sleep_s=0.020,
    ),
    Scenario(
        "cpu",
        "CPU-bound mixed: one request in 20 runs 5 ms of pure Python",
        Load(HELLO_REQUEST, Request("/spin"), 20),
    ),
    Scenario(
        "megabyte",
        "1 MB response",
        Load(Request("/megabyte"), connections=8),
        answer=b"x" * 1_000_000,
    ),
    Scenario(
        "upload", "1 MB upload", Load(Request("/upload", 1_000_000), connections=8), answer=b"1000000\n"
    ),
    Scenario("close", "A connection for each request", Load(HELLO_REQUEST, close=True)),
    Scenario("idle", "1,000 idle keep-alive connections beside the 32", Load(HELLO_REQUEST), idle=1000),
    Scenario("log", "Access log to a file", Load(HELLO_REQUEST), log_too=True),
    Scenario(
        "idle10k",
        "10,000 idle keep-alive connections beside 8 busy ones: memory of each",
        Load(HELLO_REQUEST, connections=8),
        idle=10_000,
        alone=True,
    ),
    Scenario(
        "slowheads",
        "10,000 connections that get a byte of their head each second, beside 8 busy ones",
        Load(HELLO_REQUEST, connections=8),
        slow_heads=10_000,
        alone=True,
    ),
)
