"""Following the logs of a server under load: each line once, in its order, none missing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.waiting import eventually
from wsgitop.control import messages as m

pytestmark = pytest.mark.process

APP = """
import sys
def application(environ, start_response):
    sys.stderr.write(f"err {environ['PATH_INFO']}\\n")
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
FOLLOWERS, LINES, PAST = 4, 200, 150


class Requests(threading.Thread):
    """Asks for /NAME-1, /NAME-2 and so on until it is told to stop."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__()
        self._server, self._name = server, name
        self.done = 0
        self.ends = False

    def run(self) -> None:
        connection = self._server.connection()
        while not self.ends:
            connection.request("GET", f"/{self._name}-{self.done + 1}")
            connection.getresponse().read()
            self.done += 1
        connection.close()


class Follower(threading.Thread):
    """Follows both logs, again and again, and keeps what each time brought."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.found: list[list[m.LogLine]] = []
        self.fault: BaseException | None = None

    def run(self) -> None:
        arguments = m.SubscribeArguments(
            snapshots=False, events=False, error_log=True, access_log=True, past_lines=PAST
        )
        try:
            for _ in range(FOLLOWERS):
                lines: list[m.LogLine] = []
                with self._server.client() as client:
                    for item in client.news(arguments):
                        if isinstance(item, m.LogLine):
                            lines.append(item)
                        if sum(line.log == "access" for line in lines) >= PAST + LINES:
                            break
                self.found.append(lines)
        except BaseException as fault:  # noqa: BLE001 - the test raises it
            self.fault = fault


def test_each_line_comes_once_and_none_is_missing(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(APP)
    server = start_server(
        "counting:application", "--workers", "2", "--access-logfile", str(tmp_path / "access.log"),
        "--access-logformat", "%(U)s", cwd=tmp_path,
    )  # fmt: skip
    load = [Requests(server, name) for name in "ab"]
    followers = [Follower(server) for _ in range(2)]
    for thread in load:
        thread.start()
    try:
        eventually(lambda: all(one.done > PAST for one in load), what="some requests")
        for follower in followers:
            follower.start()
        for follower in followers:
            follower.join(60)
    finally:
        for thread in load:
            thread.ends = True
            thread.join()
    for follower in followers:
        assert follower.fault is None and len(follower.found) == FOLLOWERS
        for lines in follower.found:
            assert not any(line.dropped for line in lines), "it was quick enough"
            for log, prefix in (("access", "/"), ("error", "err /")):
                texts = [line.text for line in lines if line.log == log]
                assert len(texts) > PAST
                for one in "ab":
                    start = f"{prefix}{one}-"
                    numbers = [int(text.removeprefix(start)) for text in texts if text.startswith(start)]
                    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_over_reloads_that_change_the_access_log(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(APP)
    config, other = tmp_path / "gunicorn.conf.py", tmp_path / "other.log"
    text = 'accesslog = {!r}\naccess_log_format = "%(U)s"\n'
    config.write_text(text.format(str(tmp_path / "access.log")))
    server = start_server("counting:application", "-c", str(config), cwd=tmp_path)
    other.write_text("/from-last-week\n")
    with server.client() as client:
        news = client.news(m.SubscribeArguments(10.0, events=False, access_log=True))
        assert not isinstance(next(news), m.LogLine), "the first picture: it is followed"
        following = (item for item in news if isinstance(item, m.LogLine))
        config.write_text(text.format(str(other)))
        assert server.ctl("reload").returncode == 0
        server.get("/new")
        assert next(following) == m.LogLine("access", "/new")
        assert server.ctl("log", "--access").stdout.split() == ["/from-last-week", "/new"]
        config.write_text(text.format(""))
        assert server.ctl("reload").returncode == 0
        assert next(following) == m.LogLine("access", "[wsgitop] the lines end here: there is no access log")
    refused = server.ctl("log", "--access", "-f")
    assert refused.returncode == 1 and "there is no access log" in refused.stderr
