"""What a worker answers to a peer that may not say what it says."""

from __future__ import annotations

import pytest

from tests.worker import apps
from tests.worker.harness import worker
from wsgitop.scoreboard import layout as at

pytestmark = pytest.mark.process


def test_a_request_that_contradicts_itself_is_refused_and_logged() -> None:
    with worker(apps.headers) as w, w.connect() as client:
        client.get("/", X_Forwarded_Proto="https")
        assert b"wsgi.url_scheme='https'" in client.answer().body
        client.get("/", X_Forwarded_Proto="https", X_Forwarded_Ssl="off")
        assert client.answer().status == 400
        assert client.ended()
        assert "Refused a request from 127.0.0.1: 400 Headers of the proxy contradict each other" in w.log()
        assert w.word(at.REJECTED) == 1


def test_a_path_outside_of_the_mount_point_is_refused_and_the_next_served() -> None:
    with worker(apps.headers) as w:
        with w.connect() as client:
            client.send(
                b"POST /elsewhere HTTP/1.1\r\nHost: t\r\nSCRIPT_NAME: /app\r\nContent-Length: 4\r\n\r\nbody"
            )
            assert client.answer().status == 500
            assert client.ended()
        with w.connect() as client:
            client.send(b"GET /app/x HTTP/1.1\r\nHost: t\r\nSCRIPT_NAME: /app\r\n\r\n")
            body = client.answer().body
            assert b"SCRIPT_NAME='/app'" in body and b"PATH_INFO='/x'" in body
