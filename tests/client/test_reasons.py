"""What is said about a program that did not reach a server, or lost it."""

from __future__ import annotations

import pytest

from wsgitop.client.reasons import why_lost
from wsgitop.errors import CannotConnect, Refused, WsgitopError
from wsgitop.transport.target import ExecTarget, SshTarget

WEB = SshTarget("web", "alice")
DOCKER = ExecTarget(("docker", "exec", "-i", "shop", "wsgitop", "relay"))


@pytest.mark.parametrize(
    ("end", "kind", "cause", "remedy"),
    [
        ((WEB, 255, "Host key verification failed.\r\n", False), CannotConnect,
         "ssh does not know the host key of web", "`ssh web`"),
        ((WEB, 255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
          False), CannotConnect, "is not the one that ssh knows", "Find out why"),
        ((WEB, 255, "alice@web: Permission denied (publickey).\n", False), CannotConnect,
         "web does not let you in: alice@web: Permission denied (publickey).", "key"),
        ((WEB, 255, "ssh: Could not resolve hostname web: Name or service not known\n", False), CannotConnect,
         "ssh does not reach web: ssh: Could not resolve hostname web", "`ssh web true`"),
        ((WEB, 255, "", True), CannotConnect, "the connection to web was lost", "`ssh web true`"),
        ((WEB, 255, "client_loop: send disconnect: Broken pipe", True), CannotConnect,
         "the connection to web was lost: client_loop", ""),
        ((WEB, 127, "bash: line 1: wsgitop: command not found\n", False), CannotConnect,
         "wsgitop cannot be run at web: bash: line 1: wsgitop: command not found", "--remote-command"),
        ((WEB, 126, "sh: 1: /srv/wsgitop: Permission denied\n", False), CannotConnect, "cannot be run at web",
         "--remote-command"),
        ((WEB, 3, "motd\nwsgitop: no server of yours is running\n  Start one.\n", False), CannotConnect,
         "web: no server of yours is running", "Start one."),
        ((WEB, 4, "wsgitop: /c.sock belongs to another user\n", False), Refused,
         "web: /c.sock belongs to another user", ""),
        ((WEB, 2, "wsgitop: No such command 'relay'.\n  Try `wsgitop --help`.\n", False), CannotConnect,
         "the wsgitop at web is too old", "Update"),
        ((WEB, 1, "\x1b[2Jboo\n", False), CannotConnect, "\\x1b[2Jboo", "ssh web wsgitop relay"),
        ((WEB, 0, "", True), CannotConnect, "the connection to web was lost", "log"),
        ((WEB, 143, "", True), CannotConnect, "the connection to web was lost", "log"),
        ((DOCKER, 137, "OCI runtime: killed", True), CannotConnect, "was lost: OCI runtime: killed", "log"),
        ((WEB, -9, "", True), CannotConnect, "ssh was killed by SIGKILL", ""),
        ((DOCKER, 1, "Error response from daemon: No such container: shop\n", False), CannotConnect,
         "No such container: shop", "-i"),
        ((DOCKER, 0, "", False), CannotConnect, "it ended with status 0", "-i"),
        ((DOCKER, None, "", False), CannotConnect, "it closed its output", "-i"),
        ((DOCKER, 127, "exec: wsgitop: not found", False), CannotConnect, "finds no program", "path"),
        ((DOCKER, -70, "", False), CannotConnect, "was killed by signal 70", ""),
        ((DOCKER, 255, "x" * 5000, False), CannotConnect, "xxx…", "-i"),
    ],
)  # fmt: skip
def test_reasons(
    end: tuple[SshTarget | ExecTarget, int | None, str, bool],
    kind: type[WsgitopError],
    cause: str,
    remedy: str,
) -> None:
    target, status, said, greeted = end
    fault = why_lost(target, status, said, greeted=greeted)
    assert type(fault) is kind
    assert cause in fault.cause
    assert remedy in fault.remedy
    assert str(fault).replace("\n  ", "").isprintable()
    assert len(fault.cause) < 500
