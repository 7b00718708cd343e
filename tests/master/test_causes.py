"""Why a process has ended, from what is known about it."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsgitop.worker.loop
import wsgitop.worker.process
from wsgitop.master import plan
from wsgitop.master.causes import INTERNAL_ERROR_STATUS, TOLD_BY, Facts, Sent, is_crash, verdict
from wsgitop.snapshot import DeathCause

ALICE = "alice (pid 4711)"
ABRT, KILL, QUIT, TERM = signal.SIGABRT, signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM


def exit_status(number: int) -> int:
    return number << 8


CASES = [
    # What the master wanted.
    (
        Facts(0, phase="retiring", order="scaled down"),
        "scaled down",
        "",
        "exited with status 0: scaled down",
    ),
    (
        Facts(0, phase="retiring", order="replaced by generation 3"),
        "replaced",
        "",
        "replaced by generation 3",
    ),
    (
        Facts(0, phase="retiring", order="recycled after 9 requests (--max-requests)"),
        "recycled",
        "",
        "9 requ",
    ),
    (Facts(0, phase="retiring", order="the server stops", stopped_by=ALICE), "stopped", ALICE, "stops"),
    (
        Facts(0, phase="retiring", order="an operator asked for it (bob)"),
        "retired",
        "",
        "asked for it (bob)",
    ),
    (Facts(0, stopping=True, stopped_by="terminal"), "stopped", "terminal", "exited with status 0"),
    # What it did by itself.
    (Facts(0), "exited", "", "exited with status 0, unasked"),
    (Facts(exit_status(70)), "exited", "", "exited with status 70, unasked"),
    (Facts(exit_status(3), phase="booting"), "exited", "", "exited with status 3 while it loaded"),
    (
        Facts(exit_status(4), phase="retiring", boot_error="no module x\n  Install it."),
        "boot failed",
        "",
        "no mod",
    ),
    (Facts(0, phase="retiring", given_up="the master is gone"), "retired", "", "the master is gone"),
    (
        Facts(0, phase="retiring", given_up="slow", timed_out=True),
        "timeout",
        "master",
        "exceeded --timeout",
    ),
    *(
        (Facts(number), "crashed", "", f"was killed by {number.name}")
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, ABRT)
    ),
    # Signals: of an operator, of the master, of strangers, of the kernel.
    (
        Facts(KILL, sent=(Sent(KILL, ALICE, ""),)),
        "killed",
        ALICE,
        f"was killed by SIGKILL, sent by {ALICE}",
    ),
    (Facts(ABRT, sent=(Sent(ABRT, ALICE, ""),)), "killed", ALICE, f"SIGABRT, sent by {ALICE}"),
    (Facts(KILL), "killed", "", "was killed by SIGKILL from outside"),
    (Facts(signal.SIGUSR1), "killed", "", "was killed by SIGUSR1 from outside"),
    (Facts(KILL, oom=True, memory="it had 3 MiB at most"), "out of memory", "", "(it had 3 MiB at most)"),
    (Facts(KILL, oom=True, sent=(Sent(KILL, ALICE, ""),)), "killed", ALICE, "sent by alice"),
    (
        Facts(ABRT, phase="booting", sent=(Sent(ABRT, "", "it did not boot within 9 s (--boot-timeout)"),)),
        "aborted",
        "master",
        "was killed by SIGABRT, sent by the master: it did not boot within 9 s",
    ),
    (
        Facts(KILL, sent=(Sent(ABRT, "", "silent (--timeout)"), Sent(KILL, "", "it did not end after"))),
        "timeout",
        "master",
        "was killed by SIGKILL, sent by the master: silent (--timeout)",
    ),
    (
        Facts(KILL, phase="retiring", order="x", sent=(Sent(QUIT, "", "x"), Sent(KILL, "", "not in time"))),
        "aborted",
        "master",
        "sent by the master: not in time",
    ),
    (
        Facts(KILL, phase="retiring", timed_out=True, sent=(Sent(KILL, "", "(--graceful-timeout)"),)),
        "timeout",
        "master",
        "SIGKILL",
    ),
    (Facts(0, phase="retiring", given_up=TOLD_BY + "SIGTERM"), "killed", "", "after SIGTERM from outside"),
    (
        Facts(0, phase="retiring", given_up=TOLD_BY + "SIGTERM", sent=(Sent(TERM, ALICE, ""),)),
        "killed",
        ALICE,
        f"after SIGTERM sent by {ALICE}",
    ),
    (Facts(0, sent=(Sent(QUIT, ALICE, ""),)), "killed", ALICE, f"after SIGQUIT sent by {ALICE}"),
    (
        Facts(0, phase="retiring", order="the server stops", sent=(Sent(QUIT, "", "x"),)),
        "stopped",
        "",
        "stops",
    ),
    # Others.
    (Facts(signal.SIGSEGV, phase="quarantined"), "quarantined", "", "SIGSEGV while it was in quarantine"),
    (Facts(KILL, process="zygote", order="replaced by generation 2"), "replaced", "", "replaced by gen"),
    (Facts(KILL, process="zygote", boot_error="it is broken"), "boot failed", "", "it is broken"),
]


@pytest.mark.parametrize(("facts", "cause", "actor", "words"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_causes(facts: Facts, cause: str, actor: str, words: str) -> None:
    found = verdict(facts)
    assert (found.cause, found.actor) == (cause, actor)
    assert words in found.how
    wanted = {"scaled down", "replaced", "recycled", "stopped", "retired", "quarantined"}
    assert bool(found.next_step) == (cause not in wanted and found.actor != ALICE), "what to do, if anything"


def test_only_what_is_nobody_elses_doing_is_a_reason_to_wait() -> None:
    counted = {str(verdict(facts).cause) for facts, *_ in CASES if verdict(facts).self_inflicted}
    assert counted == {"crashed", "exited", "out of memory", "boot failed"}


@pytest.mark.parametrize(
    ("facts", "served_s", "crash"),
    [
        (Facts(0), 9, True),
        (Facts(0), 11, False),
        (Facts(KILL), 0.1, True),
        (Facts(KILL), 0.5, False),
        (Facts(KILL, sent=(Sent(KILL, ALICE, ""),)), 0.1, False),
        (Facts(KILL, sent=(Sent(KILL, "", "x (--timeout)"),)), 0.1, False),
        (Facts(0, phase="retiring", order="scaled down"), 0.1, False),
    ],
)
def test_what_counts_as_a_crash(facts: Facts, served_s: float, crash: bool) -> None:
    assert is_crash(verdict(facts), served_s) == crash


def test_every_cause_is_covered_above() -> None:
    assert {cause for _, cause, _, _ in CASES} == set(get_args(DeathCause))


def test_the_words_that_causes_are_told_by_are_those_in_use() -> None:
    """The plan's reasons and the worker's announcement are texts; who changes them has to look here."""
    source = Path(plan.__file__).read_text()
    for words in (
        "scaled down",
        "replaced by",
        "the server stops",
        "(--boot-timeout)",
        "(--graceful-timeout)",
    ):
        assert words in source
    assert wsgitop.worker.process.TOLD_BY == TOLD_BY
    assert wsgitop.worker.loop.INTERNAL_ERROR_STATUS == INTERNAL_ERROR_STATUS


@given(
    st.builds(
        Facts,
        status=st.one_of(st.integers(1, 64), st.integers(0, 255).map(exit_status)),
        sent=st.lists(
            st.builds(
                Sent,
                st.sampled_from([ABRT, KILL, QUIT, TERM]),
                st.sampled_from(["", ALICE]),
                st.text(max_size=5),
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_whatever_happened_there_is_a_verdict_that_says_how(facts: Facts) -> None:
    for phase in ("booting", "serving", "retiring", "quarantined"):
        for process in ("worker", "zygote"):
            found = verdict(dataclasses.replace(facts, phase=phase, process=process))
            assert found.cause in get_args(DeathCause)
            assert ("killed by" if os.WIFSIGNALED(facts.status) else "exited") in found.how


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "its stack tells where."),
        (signal.SIGXCPU, "a resource limit (ulimit -t"),
        (signal.SIGALRM, "no handler for it"),
        (signal.SIGPIPE, "its default action back"),
    ],
)
def test_what_a_process_does_to_itself_is_a_crash_and_says_how(number: signal.Signals, words: str) -> None:
    found = verdict(Facts(number, 7))
    assert (found.cause, found.self_inflicted) == ("crashed", True)
    assert words in found.next_step
