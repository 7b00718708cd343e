"""What the end-to-end tests share: the Django project with a database of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.django_site import PROJECT, make_database
from tests.support.server import Server


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with the admin user; made once, copied by each test."""
    path = tmp_path_factory.mktemp("rmadmin") / "migrated.sqlite3"
    make_database(path)
    return path


@pytest.fixture
def start_django(start_server: StartServer, migrated_database: Path, tmp_path: Path) -> Callable[..., Server]:
    """Serve ``rmadmin.wsgi:application`` from its directory, as a user would, with a database of its own."""
    database = tmp_path / "db.sqlite3"
    shutil.copy(migrated_database, database)

    def start(*args: str, **options: object) -> Server:
        return start_server(
            "rmadmin.wsgi:application", *args, cwd=PROJECT, env={"RMADMIN_DATABASE": str(database)}, **options
        )

    return start
