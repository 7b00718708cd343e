"""A real sshd of one's own on loopback or in a network namespace, and an ssh that knows it.

Nothing of the machine's own ssh takes part: keys, configuration and known hosts are in the test's directory.
ssh looks for its configuration in the home that the password file names, so a program called ssh, in a
directory for the PATH, adds the option that names another.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.waiting import eventually

PROGRAM = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
"""Not on the PATH of everybody. With it comes ssh itself."""
USER = pwd.getpwuid(os.getuid()).pw_name
REMOTE_COMMAND = f"{sys.executable} -m wsgitop"
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Where sshd, run by root, locks up its part that listens to strangers. Debian's service makes it."""

_SERVER = """
ListenAddress {address}:{port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/authorized
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv {environment}
"""
_CLIENT = """
Host web
    HostName {address}
    Port {port}
    HostKeyAlias web
Host *
    IdentityFile {directory}/user
    IdentitiesOnly yes
    UserKnownHostsFile {directory}/known
    GlobalKnownHostsFile /dev/null
    ControlPath none
    ConnectTimeout 10
"""


class Sshd:
    """sshd at ``address``, whose sessions have ``environment``; ``server_in`` and ``client_in`` are words
    that put a command elsewhere (``ip netns exec NAME``).

    ``bin`` is the directory for the PATH; there the host is called "web".
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        environment: Mapping[str, str],
        *,
        address: str = "127.0.0.1",
        server_in: Sequence[str] = (),
        client_in: Sequence[str] = (),
    ) -> None:
        assert PROGRAM is not None
        self.directory = directory
        self.bin = directory / "bin"
        self._made_directory = os.getuid() == 0 and not PRIVILEGE_SEPARATION.exists()
        if self._made_directory:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        for name in ("host", "user", "stranger"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
            subprocess.run(words, check=True)
        shown = " ".join(f'"{name}={value}"' for name, value in environment.items())
        values = {"address": address, "port": port, "directory": directory, "environment": shown}
        (directory / "sshd_config").write_text(_SERVER.format(**values))
        (directory / "ssh_config").write_text(_CLIENT.format(**values))
        self.trust("host")
        self.admit("user")
        self.bin.mkdir()
        ssh = self.bin / "ssh"
        in_place = " ".join(client_in)
        ssh.write_text(f'#!/bin/sh\nexec {in_place} {shutil.which("ssh")} -F "{directory}/ssh_config" "$@"\n')
        ssh.chmod(0o755)
        self._log = directory / "sshd.log"
        self._here = not server_in
        self._place = (address, port)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*server_in, PROGRAM, "-D", "-e", "-f", str(directory / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        eventually(self._listens, what="sshd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sessions = psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        self._process.wait(5)
        for process in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._made_directory:
            PRIVILEGE_SEPARATION.rmdir()

    def trust(self, name: str) -> None:
        """Let the client know the host by the key ``name``, '' for none."""
        key = (self.directory / f"{name}.pub").read_text() if name else ""
        (self.directory / "known").write_text(f"web {key}" if key else "")

    def admit(self, name: str) -> None:
        """Let the holder of the key ``name`` in, and nobody else."""
        key = (self.directory / f"{name}.pub").read_text()
        (self.directory / "authorized").write_text(key)

    def log(self) -> str:
        """What sshd has written so far."""
        return self._log.read_text(errors="replace")

    def clients(self) -> list[psutil.Process]:
        """The ssh processes that use its configuration."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                words = process.cmdline()
                if f"{self.directory}/ssh_config" in words and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"sshd ended with status {self._process.returncode}:\n{self.log()}")
        if not self._here:
            return "Server listening" in self.log()
        with socket.create_connection(self._place, 5):
            return True
