"""A secret in the application's name: it reaches the application, and nobody who looks at the server."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from tests.conftest import StartServer
from tests.support.server import command
from wsgitop.client import running

pytestmark = pytest.mark.process

APP = """
def make(password):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [password[::-1].encode()]
    return application
"""
NAME = "keeper:make(password='hunter2')"


def test_no_one_who_looks_sees_it(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "keeper.py").write_text(APP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "syslog"))
        syslog.settimeout(10)
        to = f"unix://{tmp_path / 'syslog'}"
        server = start_server(NAME, "--log-syslog", "--log-syslog-to", to, cwd=tmp_path)
        assert server.get("/")[1] == b"2retnuh"
        sent = syslog.recv(4096).decode()
    client = server.client()
    hello = client.connect()
    try:
        seen: list[object] = [
            client.status(), client.events(), client.settings(), client.metrics(), client.log(500),
            running(server.env), [process.cmdline() for process in server.processes()],
            [path.name for path in server.runtime_dir.rglob("*")],
        ]  # fmt: skip
    finally:
        client.close()
    seen += [hello, sent]
    text = msgspec.json.encode(seen).decode() + server.log()
    text += "".join(path.read_text() for path in server.runtime_dir.rglob("*") if path.is_file())
    assert hello.app == "keeper:make(password=(hidden))" and "keeper.make(password=(hidden))" in sent
    assert "hunter2" not in text


def test_what_cannot_be_loaded_is_told_without_it(tmp_path: Path, runtime_dir: Path) -> None:
    (tmp_path / "keeper.py").write_text("def make(password): return None\n")
    for words in (("check", NAME), ("serve", "--bind", "127.0.0.1:0", NAME)):
        done = command(*words, runtime_dir=runtime_dir, cwd=tmp_path)
        assert done.returncode != 0 and "make(password=(hidden))" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
