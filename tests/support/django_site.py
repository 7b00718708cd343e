"""The Django project of the tests: its database, and a browser good enough to use its admin."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from tests.support.load import closed_by_server
from tests.support.server import APPS

PROJECT = APPS / "rmadmin"
USER = "admin"
PASSWORD = "of the tests only"


def make_database(path: Path) -> None:
    """Migrate and create the user, as the project's own manage.py does it."""
    env = os.environ | {
        "RMADMIN_DATABASE": str(path),
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    create = ["createsuperuser", "--noinput", "--username", USER, "--email", "admin@site.example"]
    for words in (["migrate", "--verbosity", "0"], create):
        subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=PROJECT,
            env=env,
            check=True,
            capture_output=True,
            timeout=60,
        )


class Site(Protocol):
    """What a browser connects to."""

    def connection(self, *, timeout_s: float) -> http.client.HTTPConnection: ...


class Browser:
    """Follows redirects, keeps cookies, reuses its connection, and fills in Django's CSRF token.

    ``origin``, as https://HOST, is where its forms say that they come from.
    """

    def __init__(self, site: Site, origin: str = "") -> None:
        self._connection = site.connection(timeout_s=30)
        self._origin = origin
        self.cookies = SimpleCookie()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> tuple[int, str, http.client.HTTPMessage]:
        """GET, following redirects: status, text and headers of the last answer."""
        return self._request("GET", path, None)

    def submit(
        self, path: str, *, form_at: str = "", **fields: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """Load the form at ``form_at`` (or ``path``), then post ``fields`` to ``path`` with its token."""
        status, page, _ = self.get(form_at or path)
        assert status == 200, page
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, f"no form at {form_at or path}"
        return self.post(path, csrfmiddlewaretoken=token[1], **fields)

    def post(self, path: str, **fields: str) -> tuple[int, str, http.client.HTTPMessage]:
        """POST a form, following redirects."""
        return self._request("POST", path, urlencode(fields))

    def log_in(self) -> None:
        """Log in to the admin."""
        status, page, _ = self.submit("/admin/login/?next=/admin/", username=USER, password=PASSWORD)
        assert status == 200 and "Site administration" in page, page[:2000]

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, str, http.client.HTTPMessage]:
        for _ in range(5):
            headers = {"Cookie": "; ".join(f"{c.key}={c.value}" for c in self.cookies.values())}
            if body is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
                if self._origin:
                    headers["Referer"] = self._origin + path
            if closed_by_server(self._connection):
                self._connection.close()  # http.client opens a new one
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            for line in response.headers.get_all("Set-Cookie", []):
                self.cookies.load(line)
            if response.status not in (301, 302, 303):
                return response.status, text, response.headers
            method, path, body = "GET", str(response.headers["Location"]), None
        raise AssertionError(f"too many redirects, the last to {path}")
