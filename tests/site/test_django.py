"""A Django project with admin, sessions and SQLite, used as a person would use it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.contrib import admin

from tests.support.django_site import PROJECT, Browser
from tests.support.server import Server

pytestmark = [pytest.mark.process, pytest.mark.every_python]

STATIC_FILES = ("/static/admin/css/base.css", "/static/admin/js/theme.js", "/static/admin/img/icon-yes.svg")


@pytest.fixture(scope="module")
def server(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all: what each test adds is its own."""
    database = tmp_path_factory.mktemp("site") / "db.sqlite3"
    shutil.copy(migrated_database, database)
    env = {"RMADMIN_DATABASE": str(database)}
    with Server(
        "rmadmin.wsgi:application", "--workers", "2", "--threads", "2", cwd=PROJECT, env=env
    ) as server:
        yield server.wait_until_serving()


@pytest.fixture
def browser(server: Server) -> Iterator[Browser]:
    browser = Browser(server)
    yield browser
    browser.close()


def test_log_in_add_a_group_and_a_user_and_log_out(browser: Browser) -> None:
    browser.log_in()

    status, page, _ = browser.submit("/admin/auth/group/add/", name="Editors & <friends>")
    assert status == 200
    assert "was added successfully" in page
    assert "Editors &amp; &lt;friends&gt;" in page

    words = {"password1": "a long enough one", "password2": "a long enough one"}
    status, page, _ = browser.submit("/admin/auth/user/add/", username="zoë", usable_password="true", **words)
    assert status == 200, page[:2000]
    assert "was added successfully" in page
    assert "zoë" in browser.get("/admin/auth/user/?q=zo%C3%AB")[1]

    assert "Logged out" in browser.submit("/admin/logout/", form_at="/admin/")[1]
    assert "Log in" in browser.get("/admin/")[1]


def test_a_wrong_password_and_a_missing_token_are_refused(browser: Browser) -> None:
    status, page, _ = browser.submit("/admin/login/", username="admin", password="wrong")
    assert status == 200
    assert "Please enter the correct username and password" in page

    status, page, _ = browser.post("/admin/login/", username="admin", password="wrong")
    assert status == 403
    assert "CSRF verification failed" in page


@pytest.mark.parametrize("path", STATIC_FILES)
def test_static_files_arrive_whole(server: Server, path: str) -> None:
    source = (Path(admin.__file__).parent / path.lstrip("/")).read_bytes()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.get(path), range(16)))
    assert answers == [(200, source)] * 16
