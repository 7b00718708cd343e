"""From a target to a link: a unix socket of this machine, or a process that reaches another one."""

from __future__ import annotations

import asyncio
import sys

from wsgitop.client.finding import find
from wsgitop.client.link import Link
from wsgitop.client.reasons import label_of, why_lost
from wsgitop.errors import UsageError
from wsgitop.snapshot import printable, printable_lines
from wsgitop.transport.process import ProcessStream, start
from wsgitop.transport.ssh import REMOTE_COMMAND, ssh_command
from wsgitop.transport.target import ExecTarget, SshTarget, parse_target
from wsgitop.transport.unix import connect

NOISE_LINES = 10
"""What a login shell's start files may print before the server's first answer."""

LAST_WORDS_S = 0.1
"""What a program says and then ends is told as the reason, and not a second time."""
CLOSING_S = 4.0
"""For a process to end by itself, then by TERM, then by KILL."""


async def dial(target: str, *, remote_command: str = "", interactive: bool = False) -> Link:
    """A link to what ``target`` names; nobody has answered on it yet.

    ``remote_command`` is what is run in place of ``wsgitop`` at the far end of ssh. ``interactive``: the
    program that is started may ask at the terminal and shares its Ctrl-C, and what it says is shown until the
    server has answered. Raises UsageError, CannotConnect, Refused.
    """
    parsed = parse_target(target)
    if remote_command and not isinstance(parsed, SshTarget):
        raise UsageError(
            "--remote-command is for ssh:// targets", "An exec: target names the whole command itself."
        )
    if isinstance(parsed, SshTarget):
        words = ssh_command(parsed, remote_command=remote_command or REMOTE_COMMAND, interactive=interactive)
        return await _through(parsed, words, interactive=interactive)
    if isinstance(parsed, ExecTarget):
        return await _through(parsed, list(parsed.words), interactive=interactive)
    path = find(target)
    sock = connect(path)
    link = Link(printable(path, 200))
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=sock)
    except BaseException:
        sock.close()
        raise
    return link


async def _through(target: SshTarget | ExecTarget, words: list[str], *, interactive: bool) -> Link:
    link = Link(label_of(target), noise_lines=NOISE_LINES)

    def lost(status: int | None, said: str) -> None:
        link.lost(why_lost(target, status, said, greeted=link.is_greeted))

    def say(text: str) -> None:
        asyncio.get_running_loop().call_later(LAST_WORDS_S, say_if_it_goes_on, text)

    def say_if_it_goes_on(text: str) -> None:
        if not link.is_greeted and link.fault is None:
            sys.stderr.write(printable_lines(text))
            sys.stderr.flush()

    stream: ProcessStream = await start(
        words, link.data_received, lost, say=say if interactive else None, own_session=not interactive
    )
    link.stream = stream
    link.last_resort = stream.kill
    link.closing_s = CLOSING_S
    return link
