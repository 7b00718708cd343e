"""The package's exceptions, each with the exit status it means for a command.

One class per fault. ``str(error)`` is what a user reads: the cause and, behind it, the next step.
Exit statuses are gunicorn's where a gunicorn user would expect them (1 configuration or bind failure, 2
usage, 3 worker boot failure, 4 application import failure) and those of ``wsgitop ctl`` (1 the action failed,
2 usage, 3 cannot connect, 4 refused).
"""

from __future__ import annotations

from typing import ClassVar


class WsgitopError(Exception):
    """A fault with a cause a user can act on.

    ``cause`` is one line that names what is wrong, ``remedy`` one line that names the next step (may be
    empty).
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = cause
        self.remedy = remedy
        super().__init__(f"{cause}\n  {remedy}" if remedy else cause)


class UsageError(WsgitopError):
    """The command line does not make sense."""

    exit_status = 2


class ConfigError(WsgitopError):
    """A setting, or the file or variable it came from, cannot be used."""


class BindError(WsgitopError):
    """A listener could not be opened."""


class PidfileError(WsgitopError):
    """The pid file belongs to a running server or cannot be written."""


class ControlSocketError(WsgitopError):
    """The control socket cannot be made safely, or another master holds it."""


class AppImportError(WsgitopError):
    """The application cannot be imported or is not a WSGI callable. ``traceback`` is the text, when there is
    one.
    """

    exit_status = 4

    def __init__(self, cause: str, remedy: str = "", *, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(cause, remedy)


class WorkerBootError(WsgitopError):
    """No worker came up at the first start."""

    exit_status = 3


class HookError(WsgitopError):
    """A hook of the config file failed where nothing can go on without it. ``traceback`` is its text."""

    def __init__(self, cause: str, remedy: str = "", *, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(cause, remedy)


class TerminalError(WsgitopError):
    """The interface needs a terminal and there is none that can show it."""


class InterfaceFault(WsgitopError):
    """The interface broke off by a fault of its own. It has printed its traceback."""


class CannotConnect(WsgitopError):
    """No master answers at the target."""

    exit_status = 3


class Refused(WsgitopError):
    """The master answered, and does not let this user do that."""

    exit_status = 4


class ActionFailed(WsgitopError):
    """The master tried what it was asked for, and it did not work out. ``detail`` may hold a traceback."""

    def __init__(self, cause: str, remedy: str = "", *, detail: str = "") -> None:
        self.detail = detail
        super().__init__(cause, remedy)


class ProtocolError(WsgitopError):
    """The other side of a control connection or channel does not speak our protocol."""


class UpgradeError(WsgitopError):
    """A new master cannot take the place of the one that has started it."""
