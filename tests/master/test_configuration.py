"""Settings over reloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsgitop.errors import ConfigError
from wsgitop.master.configuration import Configuration
from wsgitop.settings.load import Layer, resolve


def configuration(
    directory: str = "/srv/current", file: dict[str, Any] | None = None, **given: Any
) -> Configuration:
    command_line = {"wsgi_app": "site:app"} | given
    layers = (Layer("/srv/conf.py", file or {}, "file"), Layer("command line", command_line, "command line"))
    return Configuration(resolve(layers), layers, directory)


def test_file_is_read_anew() -> None:
    found = configuration(file={"workers": 2, "timeout": 10}, config="/srv/conf.py")
    assert (found.workers, found.settings.timeout) == (2, 10)
    settings, notes = found.resolve_again("/srv/conf.py", json.dumps({"workers": 5}))
    assert (settings.workers, settings.timeout, notes) == (5, 30, ())


def test_command_line_stays_stronger() -> None:
    found = configuration(file={"workers": 2}, workers=3)
    settings, _ = found.resolve_again("/srv/conf.py", json.dumps({"workers": 5, "timeout": 9}))
    assert (settings.workers, settings.timeout) == (3, 9)


def test_nothing_is_in_force_before_it_is_accepted() -> None:
    found = configuration(file={"workers": 2})
    settings, _ = found.resolve_again("/srv/conf.py", json.dumps({"workers": 5, "chdir": "elsewhere"}))
    assert (found.workers, found.app_directory()) == (2, "/srv/current")
    assert found.app_directory(settings) == "/srv/current/elsewhere"
    found.accept(settings)
    assert (found.workers, found.app_directory()) == (5, "/srv/current/elsewhere")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reuse_port", True),
        ("pidfile", "/run/x.pid"),
        ("control_socket", "/run/x.sock"),
    ],
)
def test_what_is_open_already_is_remarked_upon(name: str, value: object) -> None:
    found = configuration()
    _, notes = found.resolve_again("/srv/conf.py", json.dumps({name: value}))
    assert notes == (f"{name} has changed: it takes effect when the server is restarted",)


@pytest.mark.parametrize("values", [{"workers": "many"}, {"timeout": -1}, {"worker_class": "gevent"}])
def test_bad_values_change_nothing(values: dict[str, object]) -> None:
    found = configuration(file={"workers": 2})
    before = found.settings
    with pytest.raises(ConfigError):
        found.resolve_again("/srv/conf.py", json.dumps(values))
    assert found.settings is before


def test_no_application_any_more() -> None:
    layers = (Layer("/srv/conf.py", {"wsgi_app": "site:app"}, "file"),)
    found = Configuration(resolve(layers), layers, "/srv")
    with pytest.raises(ConfigError, match="no application is named any more"):
        found.resolve_again("/srv/conf.py", "{}")


def test_toml_is_read_by_the_master_itself(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("workers = 2\n")
    found = configuration(config=str(path), file={"workers": 2})
    assert found.python_file == ""
    path.write_text("workers = 7\n")
    assert found.resolve_again("", "{}")[0].workers == 7
    path.write_text("workers = \n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        found.resolve_again("", "{}")
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        found.resolve_again("", "{}")


def test_links_stay_unresolved(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "current").symlink_to("7")
    found = configuration(directory=str(tmp_path / "current"))
    assert found.app_directory() == str(tmp_path / "current")
