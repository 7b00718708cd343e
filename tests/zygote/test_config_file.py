"""Python config files: what is taken from them, and how they fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wsgitop.errors import ConfigError
from wsgitop.settings.hooks import HOOKS, NOT_RUN
from wsgitop.zygote.config_file import ConfigFile, load, plain

Load = Callable[[str], ConfigFile]


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Load]:
    before = set(sys.modules)
    path = list(sys.path)

    def run(source: str) -> ConfigFile:
        (tmp_path / "site.conf.py").write_text(source)
        return load("site.conf.py", str(tmp_path))

    yield run
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("workers = 3", {"workers": 3}),
        ("bind = ['a:1', 'b:2']", {"bind": ["a:1", "b:2"]}),
        ("bind = ('a:1',)", {"bind": ["a:1"]}),
        ("raw_env = {'A=1'}", {"raw_env": ["A=1"]}),
        ("secure_scheme_headers = {'A': 'b'}", {"secure_scheme_headers": {"A": "b"}}),
        (
            "timeout = 1.5; preload_app = True; pidfile = None",
            {"timeout": 1.5, "preload_app": True, "pidfile": None},
        ),
        ("import os, sys; from pathlib import Path; workers = 2", {"workers": 2}),
        ("_private = 1; __all__ = []", {}),
        ("from __future__ import annotations", {}),
        ("def helper(): return 4\nworkers = helper()", {"workers": 4}),
        ("class Thing: pass\nworkers = 1", {"workers": 1}),
        ("name = __file__.rpartition('/')[2]", {"name": "site.conf.py"}),
        ("", {}),
    ],
)
def test_values(config: Load, source: str, values: dict[str, object]) -> None:
    assert config(source) == ConfigFile(values, ())


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_hooks(config: Load, hook: str) -> None:
    found = config(f"def {hook}(*args): return args")
    assert found.values == {} and found.notes == ()
    assert list(found.hooks) == [hook]
    assert found.hooks[hook](1) == (1,)


def test_hooks_by_name_and_none(config: Load) -> None:
    found = config("on_exit = 'os.fspath'; on_reload = None; workers = 2")
    assert found.values == {"workers": 2}
    assert found.hooks == {"on_exit": os.fspath}


def test_a_hook_of_another_signature(config: Load) -> None:
    with pytest.raises(ConfigError, match=r"post_fork: it is called with 2 arguments \(server, worker\)"):
        config("def post_fork(server): pass")


@pytest.mark.parametrize("hook", sorted(NOT_RUN))
def test_hooks_that_are_not_run_are_remarked_upon(config: Load, hook: str) -> None:
    found = config(f"def {hook}(*args): pass")
    assert found.values == {}
    assert found.notes == (f"the hook {hook} is not run by this version",)


@pytest.mark.parametrize(
    "value",
    [
        "object()",
        "{(1, 2): 3}",
        "'\\udc80'",
        "__import__('re').compile('x')",
        "(lambda x: (x.append(x), x)[1])([])",
    ],
)
def test_what_no_setting_takes_is_left_out(config: Load, value: str) -> None:
    found = config(f"workers = 2\nodd = {value}")
    assert found.values == {"workers": 2}
    (note,) = found.notes
    assert note.startswith("odd ")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("raise RuntimeError('no')", RuntimeError),
        ("import sys; sys.exit(3)", SystemExit),
        ("workers = (", SyntaxError),
        ("import a_module_that_nobody_has_installed", ImportError),
        ("workers = 1\0", (SyntaxError, ValueError)),
    ],
)
def test_what_the_file_raises_comes_through(config: Load, source: str, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        config(source)


@pytest.mark.parametrize("path", ["missing.py", "file:missing.py", "."])
def test_unreadable(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path, str(tmp_path))


def test_module(config: Load, tmp_path: Path) -> None:
    (tmp_path / "conf_as_module.py").write_text("workers = 6\n")
    assert load("python:conf_as_module", str(tmp_path)).values == {"workers": 6}


def test_file_prefix(config: Load, tmp_path: Path) -> None:
    config("workers = 7")
    assert load("file:site.conf.py", str(tmp_path)).values == {"workers": 7}
    assert load(f"file:{tmp_path}/site.conf.py", "/").values == {"workers": 7}


def test_a_log_configuration_keeps_its_objects_beside_their_names(config: Load) -> None:
    found = config(
        "import logging\n"
        "class Own(logging.Formatter):\n"
        "    def __repr__(self): raise RuntimeError\n"
        "own = Own()\n"
        "logconfig_dict = {'a': Own, 'b': own, 'c': (1, 2), 'd': logging.getLogger}\n"
    )
    assert found.values["logconfig_dict"] == {
        "a": "<__config__.Own>", "b": "<__config__.Own>", "c": [1, 2], "d": "<logging.getLogger>",
    }  # fmt: skip
    assert found.logconfig is not None
    assert isinstance(found.logconfig["b"], found.logconfig["a"])
    assert plain(found.logconfig) == found.values["logconfig_dict"]


@pytest.mark.parametrize("value", ["5", "None", "{}"])
def test_what_is_no_log_configuration(config: Load, value: str) -> None:
    found = config(f"logconfig_dict = {value}\n")
    assert not found.logconfig


def test_classes_of_loggers_and_workers_are_named(config: Load) -> None:
    found = config("class Own: ...\nlogger_class = Own\nworker_class = Own\nother = Own\n")
    assert found.values == {"logger_class": "__config__.Own", "worker_class": "__config__.Own"}
