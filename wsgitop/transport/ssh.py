"""The arguments with which ssh is started. Pure text.

ssh reads the user's own configuration and checks the host's key as it always does: what is set here are only
things that a control connection never wants. No ServerAliveInterval is among them, because on the command
line it would be stronger than the one in that configuration; the link asks for signs of life by itself.
"""

from __future__ import annotations

import shlex

from wsgitop.errors import UsageError
from wsgitop.transport.target import SshTarget

REMOTE_COMMAND = "wsgitop"

_OPTIONS = (
    "-T",  # no terminal there: bytes go through as they are
    "-e", "none",  # and none of them is an escape to ssh
    "-a", "-x",  # the far end gets neither the agent nor the display
    "-o", "ClearAllForwardings=yes",
    "-o", "RemoteCommand=none",  # one in the configuration excludes ours
)  # fmt: skip


def ssh_command(
    target: SshTarget, *, remote_command: str = REMOTE_COMMAND, interactive: bool = False
) -> list[str]:
    """The command that runs the relay on the target's host. Without ``interactive`` ssh asks nothing.

    Raises UsageError if ``remote_command`` cannot be read.
    """
    words = ["ssh", *_OPTIONS]
    if not interactive:
        words += ["-o", "BatchMode=yes"]
    if target.port:
        words += ["-p", str(target.port)]
    if target.user:
        words += ["-l", target.user]
    return [*words, "--", target.host, far_command(remote_command, target.server)]


def far_command(remote_command: str, server: str) -> str:
    """The line for the shell of the user at the far end, to which sshd gives it: every word is quoted.

    A ``~/`` at the beginning stays outside of the quotes, because only that shell knows what it means. Raises
    UsageError.
    """
    try:
        words = shlex.split(remote_command)
    except ValueError as error:
        raise UsageError(f"--remote-command cannot be read: {error}", "Close its quotes.") from None
    if not words or not all(word.isprintable() for word in words):
        raise UsageError(
            "--remote-command is no command", "Give the path of wsgitop there: /srv/venv/bin/wsgitop."
        )
    words.append("relay")
    # Behind -- even a name that begins with - is no option.
    words += ["--", server] if server else []
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if word.startswith("~/") and len(word) > 2:
        return f"~/{shlex.quote(word[2:])}"
    return shlex.quote(word)
