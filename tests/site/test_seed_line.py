"""``gunicorn --bind 0:8000 rmadmin.wsgi:application``, its first word replaced, does the same job."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.support.server import Server, free_port

pytestmark = pytest.mark.process


def test_the_seed_line(start_django: Callable[..., Server]) -> None:
    port = free_port()
    server = start_django(bind=[f"0:{port}"])
    assert server.get("/admin/login/")[0] == 200

    result = server.ctl("status", "--json")
    assert result.returncode == 0, result.stderr
    status = json.loads(result.stdout)
    assert status["master"]["bind"] == [f"0.0.0.0:{port}"]
    assert status["master"]["app"] == "rmadmin.wsgi:application"
    assert status["master"]["pid"] == server.pid
    assert [worker["slot"] for worker in status["workers"]] == [1]

    titles = [" ".join(process.cmdline()) for process in server.processes()]
    assert len(titles) == 3
    for role in ("master", "zygote", "worker 1"):
        assert any(re.search(rf"wsgitop: {role}.*rmadmin\.wsgi", title) for title in titles), titles
    assert server.stop() == 0
