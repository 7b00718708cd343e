"""How many files a worker may have open: raised to what its connections need, as far as this process may.

Zygotes and workers inherit the limit. The soft limit of most systems, 1,024, is there for programs that use
select(2) on whatever they have open; the only use of it here copes with larger numbers
(:mod:`wsgitop.worker.watchdog`).
"""

from __future__ import annotations

import resource

BESIDE_CONNECTIONS = 256
"""For the application's own files and sockets, and ours."""


def raise_limit(worker_connections: int) -> str:
    """Raise the soft limit of open files for so many connections; a note for the log if that is not allowed,
    '' otherwise.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = worker_connections + BESIDE_CONNECTIONS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ""
    granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if granted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted >= needed:
        return ""
    return (
        f"a worker can have {granted:,} files open, too few for --worker-connections {worker_connections:,}: "
        "clients beyond that wait; raise the limit (LimitNOFILE= in systemd, ulimit -Hn)"
    )
