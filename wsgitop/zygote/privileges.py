"""Taking on the user and groups that workers are to have, for good.

Runs in the zygote, behind the config file and the hook on_starting, before the application is imported: no
line of the application runs with more than it is to have, with --preload neither. The master keeps what it
was started with, because it opens logs and listeners again later. Like gunicorn, this leaves HOME and USER
as they are; --env sets them.
"""

from __future__ import annotations

import os
from pathlib import Path

from wsgitop.errors import ConfigError
from wsgitop.logs.error_log import LOGGER
from wsgitop.settings.identity import Identity, wanted_identity
from wsgitop.settings.table import Settings

ROOT = 0


def drop(settings: Settings) -> Identity | None:
    """Become who the settings say; None if that is who this is. Raises ConfigError."""
    identity = wanted_identity(settings)
    if identity is not None:
        take_on(identity)
        if not os.access(os.__file__, os.R_OK):
            library = Path(os.__file__).parent
            LOGGER.warning(
                "%s cannot read Python's own library in %s: imports will fail, as if modules did not exist",
                identity.name,
                library,
            )
    _check_directory(settings.worker_tmp_dir, identity)
    return identity


def take_on(identity: Identity) -> None:
    """Change groups and user, in this order, as the last takes the right to do the others away.

    Raises ConfigError if the kernel does not let it, or if there is a way back.
    """
    try:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        # In a user namespace an id may have no counterpart outside; a container may lack the capability.
        raise ConfigError(
            f"cannot become {identity}: {error.strerror}",
            "In a container, allow SETUID and SETGID, or start wsgitop as that user (USER in a Dockerfile).",
        ) from None
    held = {*os.getresuid()}, {*os.getresgid()}, {*os.getgroups()}
    if held != ({identity.uid}, {identity.gid}, {*identity.groups}) or _can_return(identity):
        raise ConfigError(
            f"cannot become {identity} for good: this process could take its old rights back",
            "Is a capability such as SETUID kept (securebits, ambient capabilities)? Start it without.",
        )


def _can_return(identity: Identity) -> bool:
    """Try to be root again. A process that can change its user can do it with any of the three."""
    if identity.uid == ROOT:
        return False
    try:
        os.setresuid(ROOT, ROOT, ROOT)
    except PermissionError:
        pass
    else:
        return True
    try:
        os.setgroups([ROOT, *identity.groups])
    except PermissionError:
        return False
    return True


def _check_directory(path: str, identity: Identity | None) -> None:
    """Where large bodies wait must be usable by who serves, or uploads would fail one by one."""
    if path and identity is not None and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            f"worker_tmp_dir: {path} is not there for {identity.name} to write to",
            f"Create it, and give it to {identity.name} (chown).",
        )
