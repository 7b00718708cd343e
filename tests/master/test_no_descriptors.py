"""A master without a descriptor left: it hears, signals and shows what it can."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

import psutil
import pytest

from wsgitop.master.processes import WorkerProcess, observed
from wsgitop.master.pss import ProportionalMemory
from wsgitop.master.signals import Received


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_signal_counts_though_its_sender_cannot_be_named() -> None:
    received = Received(signal.SIGHUP, os.getpid(), os.getuid())
    with mock.patch("pwd.getpwuid", side_effect=KeyError), no_descriptors():
        actor = received.actor()
    assert actor == f"uid {os.getuid()} (unknown, pid {os.getpid()})"


def test_nobody_is_observed_and_no_memory_read() -> None:
    own = psutil.Process()
    memory = ProportionalMemory()
    with no_descriptors():
        assert observed(os.getpid()) is None
        memory.ask([own])
    assert memory.of(os.getpid()) is None
    memory.ask([own])
    assert memory.of(os.getpid())


@pytest.fixture
def worker() -> WorkerProcess:
    return WorkerProcess(mock.Mock(), mock.Mock())


@pytest.mark.process
def test_a_worker_without_a_pidfd_can_be_killed(worker: WorkerProcess) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with no_descriptors():
            worker.known(child.pid)
            assert worker.pidfd < 0
            assert worker.signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    assert not worker.signal(signal.SIGKILL), "it is reaped: the pid may be another's"


def test_who_is_no_child_is_not_signalled(worker: WorkerProcess) -> None:
    with no_descriptors():
        worker.known(os.getppid())
    with mock.patch("os.kill") as kill:
        assert not worker.signal(signal.SIGKILL)
    kill.assert_not_called()
