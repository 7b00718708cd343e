"""The reference of the control protocol is current, and its examples are what a live server takes."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wsgitop
from tests.conftest import StartServer
from wsgitop.control.examples import EXAMPLES, PID
from wsgitop.control.methods import METHODS
from wsgitop.control.reference import reference


def test_the_page_is_current() -> None:
    page = Path(wsgitop.__file__).parent / "docs" / "control.md"
    assert page.read_text() == reference(), "make it again: python -m wsgitop.control.reference"


def test_every_method_has_an_example_of_its_own_types() -> None:
    assert set(EXAMPLES) == set(METHODS)
    for row in METHODS.values():
        example = EXAMPLES[row.name]
        assert type(example.arguments) is row.arguments and type(example.result) is row.result
        for value, kind in ((example.arguments, row.arguments), (example.result, row.result)):
            assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


class Line:
    """A connection to a control socket as a program of any language would use it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(path)
        self._file = self._socket.makefile("rwb")

    def call(self, method: str, params: object) -> dict[str, Any]:
        frame = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
        self._file.write(json.dumps(frame).encode() + b"\n")
        self._file.flush()
        while (answer := json.loads(self._file.readline())).get("id") != method:
            pass
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.mark.process
@pytest.mark.every_python
def test_the_examples_on_a_live_server(start_server: StartServer, tmp_path: Path) -> None:
    access_log = tmp_path / "access.log"
    server = start_server("hello:application", "-w", "2", "--access-logfile", str(access_log))
    line = Line(server.status()["master"]["control"])
    try:
        # What ends a server comes last, and the other examples' effects do not disturb the next ones.
        names = [name for name in METHODS if name not in ("stop", "upgrade", "release")]
        for name in (*names, "release", "upgrade", "stop"):
            if name == "upgrade":
                continue  # its own tests: a new master is another process than the one that this test started
            workers = json.loads(json.dumps(line.call("workers", {})["result"]["workers"]))
            wanted = "quarantined" if name == "release" else "idle"
            fitting = [worker for worker in workers if worker["state"] == wanted]
            params = msgspec.to_builtins(EXAMPLES[name].arguments)
            if params.get("pid") == PID:
                if not fitting and name == "release":
                    worker = workers[0]
                    target = {"pid": worker["pid"], "started_at": worker["started_at"]}
                    assert "result" in line.call("quarantine", target)
                    fitting = [worker]
                params |= {key: (fitting or workers)[0][key] for key in ("pid", "started_at")}
            answer = line.call(name, params)
            if name == "cancel":
                # Nothing is in flight: what the example asks for is over.
                assert answer["result"]["end"] == "finished"
            assert "result" in answer, (name, answer)
            msgspec.convert(answer["result"], METHODS[name].result)
    finally:
        line.close()
    assert server.wait_for_end() == 0
    assert "scale change=1: " in server.log()
