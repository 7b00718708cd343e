"""--user in a whole server: who has which rights."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user"),
]

APP = """
import os
AT_IMPORT = os.getresuid()
def application(environ, start_response):
    body = f"{AT_IMPORT} {os.getresuid()} {os.getresgid()} {os.getgroups()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory that another user can read, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="wsgitop-site-", dir="/tmp"))
    path.chmod(0o755)
    (path / "who.py").write_text(APP)
    yield path
    shutil.rmtree(path)


def test_the_application_runs_as_that_user_and_the_master_does_not(
    start_server: StartServer, site: Path
) -> None:
    nobody = pwd.getpwnam("nobody")
    path, log = site / "site.sock", site / "access.log"
    server = start_server(
        "who:application", "-u", "nobody", "--preload", "--access-logfile", str(log), "-b", f"unix:{path}",
        cwd=site,
    )  # fmt: skip
    ids = f"{(nobody.pw_uid,) * 3} {(nobody.pw_uid,) * 3} {(nobody.pw_gid,) * 3} {[nobody.pw_gid]}"
    assert server.get() == (200, ids.encode())
    for process in server.processes():
        expected = 0 if process.pid == server.pid else nobody.pw_uid
        assert set(psutil.Process(process.pid).uids()) == {expected}
    assert path.stat().st_uid == nobody.pw_uid and stat.S_ISSOCK(path.stat().st_mode)
    assert log.stat().st_uid == 0, "only the master opens logs"
    log.rename(site / "access.log.1")
    assert server.ctl("signal", "USR1").returncode == 0
    assert server.ctl("reload").returncode == 0
    assert server.get()[1] == ids.encode()
    eventually(lambda: log.stat().st_size > 0, what="a line in the log that was opened again")
    assert log.stat().st_uid == 0
    assert server.stop() == 0
    assert not path.exists()
