"""Settings: layers, conversions, what is refused and in which words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.errors import ConfigError
from wsgitop.settings.load import Layer, find_config, platform_layers, read_toml, resolve, resolve_with_file
from wsgitop.settings.table import TABLE, Settings


def command_line(**values: Any) -> Layer:
    return Layer("command line", values, "command line")


def test_nothing_set_is_all_defaults() -> None:
    resolved = resolve([])
    assert resolved.settings == Settings()
    assert resolved.sources == {}
    assert resolved.notes == ()


def test_the_later_layer_wins() -> None:
    layers = [
        *platform_layers({"WEB_CONCURRENCY": "2", "PORT": "5000"}),
        Layer("gunicorn.conf.py", {"workers": 3, "threads": 4}),
        Layer("GUNICORN_CMD_ARGS", {"workers": "5"}, "environment"),
        Layer("WSGITOP_CMD_ARGS", {"workers": "6"}, "environment"),
        command_line(workers="7"),
    ]
    for length, workers in ((1, 2), (2, 2), (3, 3), (4, 5), (5, 6), (6, 7)):
        assert resolve(layers[:length]).settings.workers == workers
    everything = resolve(layers)
    assert everything.settings.bind == ("0.0.0.0:5000",)
    assert everything.settings.threads == 4
    assert everything.sources == {"workers": "command line", "bind": "PORT", "threads": "gunicorn.conf.py"}


def test_variables_of_the_platform_are_weaker_than_the_file() -> None:
    layers = [*platform_layers({"PORT": "5000"}), Layer("c.py", {"bind": "127.0.0.1:9"})]
    assert resolve(layers).settings.bind == ("127.0.0.1:9",)


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_variables_say_nothing(empty: str) -> None:
    assert platform_layers({"WEB_CONCURRENCY": empty, "PORT": empty, "FORWARDED_ALLOW_IPS": empty}) == []


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("workers", "4", 4),
        ("workers", " 4 ", 4),
        ("workers", "auto", "auto"),
        ("workers", "AUTO", "auto"),
        ("threads", 8, 8),
        ("timeout", "0", 0.0),
        ("timeout", 1.5, 1.5),
        ("keepalive", "2", 2.0),
        ("umask", "0o022", 0o022),
        ("umask", "022", 0o022),
        ("umask", "18", 18),
        ("umask", 0o27, 0o27),
        ("preload_app", "true", True),
        ("preload_app", "No", False),
        ("preload_app", True, True),
        ("loglevel", "DEBUG", "debug"),
        ("bind", "a:1, b:2", ("a:1", "b:2")),
        ("bind", ["0:8000", "[::1]:8000", "unix:/run/x.sock"], ("0:8000", "[::1]:8000", "unix:/run/x.sock")),
        ("raw_env", ["A=b,c", "D="], ("A=b,c", "D=")),
        ("secure_scheme_headers", {"X-P": "https"}, {"X-P": "https"}),
        ("wsgi_app", "rmadmin.wsgi:application", "rmadmin.wsgi:application"),
        ("wsgi_app", "shop:create_app(debug=False)", "shop:create_app(debug=False)"),
        ("wsgi_app", "shop", "shop"),
        ("forwarded_allow_ips", "*, ::1,10.0.0.0/8,", "*, ::1,10.0.0.0/8,"),
        ("header_map", "Refuse", "refuse"),
    ],
)
def test_a_value_is_read(name: str, raw: Any, value: Any) -> None:
    assert getattr(resolve([command_line(**{name: raw})]).settings, name) == value


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("workers", "x", "workers: 'x' is not a whole number of at least 1 or \"auto\" (from --workers)"),
        ("workers", "0", "workers: '0' is not a whole number of at least 1 or \"auto\" (from --workers)"),
        ("workers", True, 'workers: True is not a whole number of at least 1 or "auto" (from --workers)'),
        ("threads", "257", "threads: '257' is not a whole number from 1 to 256 (from --threads)"),
        ("threads", "1.5", "threads: '1.5' is not a whole number from 1 to 256 (from --threads)"),
        ("threads", "٣", "threads: '٣' is not a whole number from 1 to 256 (from --threads)"),
        ("timeout", "nan", "timeout: 'nan' is not a number of at least 0 (from --timeout)"),
        ("timeout", "-1", "timeout: '-1' is not a number of at least 0 (from --timeout)"),
        ("timeout", "soon", "timeout: 'soon' is not a number of at least 0 (from --timeout)"),
        ("umask", "9z", "umask: '9z' is not a file mode such as 0o022 (from --umask)"),
        ("umask", "0o1777", "umask: '0o1777' is not a file mode such as 0o022 (from --umask)"),
        ("preload_app", "maybe", "preload_app: 'maybe' is not true or false (from --preload)"),
        (
            "loglevel",
            "loud",
            "loglevel: 'loud' is not one of debug, info, warning, error, critical (from --log-level)",
        ),
        ("bind", ["1.2.3.4:99999"], "bind: '1.2.3.4:99999' has no usable port: '99999' (from --bind)"),
        ("bind", [], "bind: no address is given (from --bind)"),
        ("bind", 8000, "bind: 8000 is not a text or a list of texts (from --bind)"),
        ("raw_env", ["=x"], "raw_env: '=x' is not NAME=VALUE (from --env)"),
        ("pidfile", "a\0b", "pidfile: 'a\\x00b' is not a text (from --pid)"),
        (
            "forwarded_allow_ips",
            "::1, 192.168.1.1/24",
            "forwarded_allow_ips: 192.168.1.1/24 has host bits set (from --forwarded-allow-ips)",
        ),
        (
            "header_map",
            "keep",
            "header_map: 'keep' is not one of drop, refuse, dangerous (from --header-map)",
        ),
        ("wsgi_app", "my site", "wsgi_app: 'my site' is not MODULE:CALLABLE (from command line)"),
        (
            "secure_scheme_headers",
            {"a": 1},
            "secure_scheme_headers: {'a': 1} is not a table of names and texts (from command line)",
        ),
    ],
)
def test_a_refusal_names_setting_value_source_and_what_is_allowed(name: str, raw: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve([command_line(**{name: raw})])
    assert refusal.value.cause == message


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve([command_line(workers="9" * 5000)])
    assert len(refusal.value.cause) < 200


@given(
    name=st.sampled_from(sorted(TABLE)),
    raw=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.text()),
    ),
)
def test_any_value_is_read_or_refused(name: str, raw: Any) -> None:
    try:
        resolved = resolve([Layer("x.toml", {name: raw})])
    except ConfigError as error:
        assert "x.toml" in error.cause
    else:
        assert isinstance(resolved.settings, Settings)


@pytest.mark.parametrize(
    ("source", "name", "note"),
    [
        ("c.toml", "wrokers", "wrokers: no such setting; did you mean workers? (from c.toml)"),
        ("c.toml", "zzz", "zzz: no such setting (from c.toml)"),
        ("c.py", "worker", "worker: no such setting; did you mean workers? (from c.py)"),
        ("c.py", "cores", ""),  # a variable of the file's own
    ],
)
def test_an_unknown_name_is_noted(source: str, name: str, note: str) -> None:
    assert resolve([Layer(source, {name: 1})]).notes == ((note,) if note else ())


def test_the_file_can_be_replaced() -> None:
    layers = [
        *platform_layers({"WEB_CONCURRENCY": "2"}),
        Layer("old.py", {"threads": 4, "timeout": 9}),
        Layer("found", {"config": "/srv/old.py"}, "environment"),
        command_line(wsgi_app="a:b"),
    ]
    again = resolve_with_file(pickle.loads(pickle.dumps(layers)), {"threads": 5}, "new.py")
    assert (again.settings.threads, again.settings.timeout, again.settings.workers) == (5, 30.0, 2)
    assert again.settings.config == "/srv/old.py"
    assert again.sources["threads"] == "new.py"


# -- config files --------------------------------------------------------------------------------------------


def test_the_first_config_file_is_found(tmp_path: Path) -> None:
    assert find_config(tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert find_config(tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text("[tool.wsgitop]\nworkers = 3\n")
    assert find_config(tmp_path) == str(tmp_path / "pyproject.toml")
    (tmp_path / "gunicorn.conf.py").touch()
    assert find_config(tmp_path) == str(tmp_path / "gunicorn.conf.py")
    (tmp_path / "wsgitop.conf.py").touch()
    assert find_config(tmp_path) == str(tmp_path / "wsgitop.conf.py")


def test_toml_is_read(tmp_path: Path) -> None:
    pyproject, plain = tmp_path / "pyproject.toml", tmp_path / "site.toml"
    pyproject.write_text('[tool.wsgitop]\nlog-level = "debug"\nbind = ["0:1", "0:2"]\n')
    plain.write_text("workers = 3\n")
    assert read_toml(pyproject) == {"log_level": "debug", "bind": ["0:1", "0:2"]}
    assert read_toml(plain) == {"workers": 3}


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"workers = \n", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"[tool]\nwsgitop = 3\n", "not a table"),
    ],
)
def test_broken_toml_is_refused(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=cause):
        read_toml(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_toml(tmp_path / "none.toml")
