"""Runs a server that has no command line, or one too poor to be fair: ``runner.py NAME APP PORT COUNT``.

``COUNT`` is the number of worker processes, for cheroot that of threads. Imports nothing of this package, so
that a server's memory is its own.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any


def bjoern(app: Any, port: int, workers: int) -> None:
    """One listener, and a process that serves from it for each worker, as bjoern's own examples do it."""
    import bjoern as server

    server.listen(app, "127.0.0.1", port)
    _in_processes(server.run, workers)


def fastwsgi(app: Any, port: int, workers: int) -> None:
    """Its own way to fork makes each worker listen on the port by itself."""
    try:
        import pkg_resources  # noqa: F401
    except ImportError:  # newer setuptools have none; fastwsgi asks it for its own version
        import types
        from importlib.metadata import distribution

        sys.modules["pkg_resources"] = module = types.ModuleType("pkg_resources")
        module.get_distribution = distribution  # type: ignore[attr-defined]
    import fastwsgi as package

    server = package.server
    server.app, server.host, server.port = app, "127.0.0.1", port

    def serve() -> None:
        package._fastwsgi.init_server(server)
        package._fastwsgi.run_server(server)

    _in_processes(serve, workers)


def cheroot(app: Any, port: int, threads: int) -> None:
    """Its command line cannot lift the limit of ten kept connections."""
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), app, numthreads=threads, timeout=75, request_queue_size=1024)
    server.keep_alive_conn_limit = 4096
    server.start()


def _in_processes(serve: Any, count: int) -> None:
    if count == 1:
        serve()
        return
    children = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            serve()
            os._exit(0)
        children.append(pid)

    def stop(*_: object) -> None:
        for pid in children:
            os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    for pid in children:
        os.waitpid(pid, 0)


def main() -> None:
    """See the module's docstring."""
    name, app, port, count = sys.argv[1:]
    module, _, attribute = app.partition(":")
    {"bjoern": bjoern, "fastwsgi": fastwsgi, "cheroot": cheroot}[name](
        getattr(importlib.import_module(module), attribute), int(port), int(count)
    )


if __name__ == "__main__":
    main()
