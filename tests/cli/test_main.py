"""The command line as a whole: help, usage, faults, settings from flags and variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import wsgitop
from wsgitop import __version__
from wsgitop.cli import configure as configure_module
from wsgitop.cli.configure import configure
from wsgitop.cli.main import ENTRIES, main
from wsgitop.cli.options import as_arguments, environment_layers, given, server_options
from wsgitop.errors import ConfigError, UsageError
from wsgitop.settings.load import resolve
from wsgitop.settings.table import TABLE

Captured = pytest.CaptureFixture[str]
CHECKOUT = Path(wsgitop.__file__).parents[1]
SEED = ["--bind", "0:8000", "rmadmin.wsgi:application"]


@pytest.fixture(autouse=True)
def clean_environment(runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUNICORN_CMD_ARGS", "WSGITOP_CMD_ARGS", "WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    monkeypatch.setenv("WSGITOP_DEBUG", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the package can be imported, whether or not it is installed."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=30, check=False, cwd=CHECKOUT
    )


def parse(*arguments: str) -> dict[str, Any]:
    command = click.Command("serve", params=server_options())
    with command.make_context("serve", list(arguments)) as context:
        return given(context)


# -- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: Captured) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for entry in ENTRIES:
        assert (f"\n  {entry.name} " in out) is not entry.hidden
        assert (entry.help in out) is not entry.hidden
    assert out.index("Serve:") < out.index("Options:") < out.index("Examples:")


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_every_command_has_help(name: str, capsys: Captured) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: wsgitop {name} ")
    assert "--debug" in out
    assert "Examples:" in out


def test_the_help_of_serve_has_every_setting_by_section(capsys: Captured) -> None:
    assert main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for setting in TABLE.values():
        for flag in setting.flags:
            assert flag in out
        assert not setting.flags or f"\n{setting.section}:\n" in out
    assert "--certfile" not in out  # accepted, to be refused with a reason, but not offered


def test_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"wsgitop {__version__} (Python 3.")


@pytest.mark.process
def test_help_is_quick_because_it_imports_little() -> None:
    code = (
        "import sys; from wsgitop.cli.main import main; main(['--help'])\n"
        "heavy = {'textual', 'rich', 'httptools', 'psutil', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.every_python
@pytest.mark.process
def test_the_package_runs_as_a_module() -> None:
    done = python("-m", "wsgitop", "--version")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "redirection", "status"),
    [
        ("--version", ">&-", 0),
        ("--help", ">&-", 0),
        ("--version", ">/dev/full", 1),
        ("--help", ">/dev/full", 1),
        ("nonsense", "2>/dev/full", 1),
        ("nonsense", "2>&-", 2),
        ("nonsense", ">&- 2>&-", 2),
    ],
)
def test_an_output_that_cannot_be_written_is_no_traceback(words: str, redirection: str, status: int) -> None:
    line = f'"$0" -m wsgitop {words} {redirection}'
    process = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == status
    assert "Traceback" not in process.stderr
    if redirection == ">/dev/full":
        assert process.stderr == "wsgitop: the output cannot be written: No space left on device\n"


def test_a_reader_that_goes_away_is_no_fault() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wsgitop", "serve", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (1, b"")


# -- usage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["sevre"], 2, "wsgitop: No such command 'sevre'."),
        (
            ["serve", "--wrkers", "3", "a:b"],
            2,
            "wsgitop: no such option: --wrkers (did you mean --worker-class or --workers?)",
        ),
        (["serve", "--bind"], 2, "wsgitop: Option '--bind' requires an argument."),
        (["serve", "a:b", "c:d"], 2, "wsgitop: Got unexpected extra argument (c:d)"),
        (["serve"], 2, "wsgitop: no application is named"),
        (
            ["serve", "-w", "x", "a:b"],
            1,
            "wsgitop: workers: 'x' is not a whole number of at least 1 or \"auto\" (from --workers)",
        ),
        (["serve", "-k", "gevent", "a:b"], 1, "wsgitop: worker_class: 'gevent' is not served here"),
        (["serve", "--certfile", "c.pem", "a:b"], 1, "wsgitop: certfile: TLS is not served by this version"),
        (["serve", "-u", "no-such", "a:b"], 1, "wsgitop: user: there is no user 'no-such' on this machine"),
        (["run", "-D", "a:b"], 2, "wsgitop: `wsgitop run` shows the server; --daemon hides it"),
        (["serve", "-b", "1.2.3.4:x", "a:b"], 1, "wsgitop: bind: '1.2.3.4:x' has no usable port"),
        (["serve", "-c", "none.py", "a:b"], 1, "wsgitop: config: "),
        (["serve", "--chdir", "none", "a:b"], 1, "wsgitop: chdir: 'none' is not a directory"),
        (["run", "a:b"], 1, "wsgitop: the input is not a terminal"),
        (["attach"], 1, "wsgitop: the input is not a terminal"),
        (["demo"], 1, "wsgitop: the input is not a terminal"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    arguments: list[str], status: int, error: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "__stdin__", nothing)
        assert main(arguments) == status
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(error)
    assert len(lines) <= 2


def test_debug_shows_the_traceback(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["serve", "--debug", "-w", "x", "a:b"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("WSGITOP_DEBUG", "0")
    assert main(["serve", "-w", "x", "a:b"]) == 1
    assert "Traceback" not in capsys.readouterr().err


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["serve", "run", "check"])
def test_the_line_of_gunicorn_is_understood(name: str) -> None:
    import importlib

    command = importlib.import_module(f"wsgitop.cli.{name}").command
    with command.make_context(name, list(SEED)) as context:
        assert given(context) == {"bind": ["0:8000"], "wsgi_app": "rmadmin.wsgi:application"}


def test_flags_become_settings() -> None:
    values = parse(
        "-b", "0:1", "--bind=unix:/x", "-w4", "-k", "gthread", "--threads=8", "-t", "60", "--preload",
        "-e", "A=1", "-e", "B=a,b", "-n", "shop", "-m", "022", "--limit-request-field_size", "100",
        "--log-file", "-", "a:b",
    )  # fmt: skip
    settings = resolve([configure_module.Layer("command line", values, "command line")]).settings
    assert settings.bind == ("0:1", "unix:/x")
    assert (settings.workers, settings.threads, settings.timeout) == (4, 8, 60.0)
    assert settings.preload_app
    assert settings.raw_env == ("A=1", "B=a,b")
    assert (settings.proc_name, settings.umask) == ("shop", 0o022)
    assert settings.limit_request_field_size == 100


def test_what_was_not_given_is_not_there() -> None:
    assert parse() == {}


@pytest.mark.parametrize(
    "arguments",
    [
        [*SEED],
        ["-w", "4", "--preload", "-e", "A=1", "-e", "B=--x", "a:b"],
        ["--proxy-protocol", "a:b"],
        ["--no-sendfile", "--reload", "a:b"],
        ["--log-file", "-", "--name=-x", "a:b"],
    ],
)
def test_a_command_line_can_be_written_again(arguments: list[str]) -> None:
    values = parse(*arguments)
    assert parse(*as_arguments(values)) == values


def test_variables_with_options() -> None:
    layers = environment_layers(
        {"GUNICORN_CMD_ARGS": "--workers 3 --env 'A=b c'", "WSGITOP_CMD_ARGS": "-w 5 --preload", "OTHER": "x"}
    )
    assert [layer.source for layer in layers] == ["GUNICORN_CMD_ARGS", "WSGITOP_CMD_ARGS"]
    resolved = resolve(layers)
    assert (resolved.settings.workers, resolved.settings.raw_env) == (5, ("A=b c",))
    assert resolved.sources["raw_env"] == "GUNICORN_CMD_ARGS"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--wrkers 3", "No such option"),
        ("--bind 'x", "No closing quotation"),
        ("--bind", "requires an argument"),
        ("a:b c:d", "unexpected extra argument"),
    ],
)
def test_variables_that_make_no_sense(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        environment_layers({"WSGITOP_CMD_ARGS": text})
    assert refusal.value.cause.startswith("WSGITOP_CMD_ARGS: ")


def test_print_config(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "5000")
    assert main(["serve", "--print-config", "-w", "3"]) == 0
    out = capsys.readouterr().out
    assert "bind = ('0.0.0.0:5000',)  (from PORT)\n" in out
    assert "workers = 3  (from command line)\n" in out
    assert "threads = 1\n" in out


# -- config files --------------------------------------------------------------------------------------------


def test_toml_is_found_and_weaker_than_flags(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.wsgitop]\nworkers = 3\nthreads = 4\nwsgi_app = "a:b"\nwrokers = 1\n'
    )
    configuration = configure({"workers": "5"}, os.environ)
    settings = configuration.resolved.settings
    assert (settings.workers, settings.threads, settings.wsgi_app) == (5, 4, "a:b")
    assert settings.config == str(tmp_path / "pyproject.toml")
    assert configuration.directory == str(tmp_path)
    (note,) = configuration.notes
    assert note.startswith("wrokers: no such setting; did you mean workers?")


@pytest.mark.every_python
@pytest.mark.process
@pytest.mark.parametrize("option", ["", "site.py", "file:site.py", "python:site_module"])
def test_a_python_file_is_loaded_by_another_process(tmp_path: Path, option: str, capsys: Captured) -> None:
    text = "import sys\nprint('hello')\nworkers = 2 + 1\ntimeout = 9\ndef ssl_context(*args): pass\n"
    for name in ("gunicorn.conf.py", "site.py", "site_module.py"):
        (tmp_path / name).write_text(text)
    # A module of the site may have the name of one of the standard library.
    (tmp_path / "types.py").write_text("raise SystemExit('shadowed')\n")
    configuration = configure({"wsgi_app": "a:b"} | ({"config": option} if option else {}), os.environ)
    assert configuration.resolved.settings.workers == 3
    assert any("ssl_context" in note for note in configuration.notes)
    expected = (
        option
        if option.startswith("python:")
        else str(tmp_path / (option.removeprefix("file:") or "gunicorn.conf.py"))
    )
    assert configuration.resolved.settings.config == expected
    assert "hello" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 1 +\n", "SyntaxError"),
        ("import nothing_of_that_name\n", "nothing_of_that_name"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("import os\nos._exit(7)\n", "status 7"),
        ("workers = 'many'\n", "'many' is not a whole number"),
    ],
)
def test_a_broken_python_file_is_one_clear_line(
    tmp_path: Path, text: str, words: str, capsys: Captured
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(text)
    assert main(["serve", "a:b"]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "gunicorn.conf.py" in error
    assert "Traceback" not in error


@pytest.mark.process
def test_a_python_file_that_hangs_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(ConfigError, match=r"not loaded within 0.5 s"):
        configure_module.run_probe(str(tmp_path / "gunicorn.conf.py"), str(tmp_path), deadline_s=0.5)


def test_an_application_is_needed() -> None:
    with pytest.raises(UsageError, match="no application"):
        configure({}, os.environ)
    assert configure({}, os.environ, need_app=False).resolved.settings.wsgi_app == ""


def test_the_working_directory_keeps_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "releases" / "7").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/7")
    monkeypatch.chdir(tmp_path / "current")
    assert configure_module.launch_directory({"PWD": str(tmp_path / "current")}) == tmp_path / "current"
    for lie in ("", "relative", str(tmp_path), str(tmp_path / "gone")):
        assert configure_module.launch_directory({"PWD": lie}) == tmp_path / "releases" / "7"


# -- check ---------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("def app(environ, start_response): ...\n", 0, "OK  shop:app is a builtins.function"),
        ("app = 3\n", 4, "shop"),
        ("1 / 0\n", 4, "ZeroDivisionError"),
        ("import nothing_of_that_name\n", 4, "nothing_of_that_name"),
        ("import os\nos._exit(0)\n", 4, "ended the process that loaded it"),
        ("import time\ntime.sleep(60)\n", 4, "was not loaded within 1 s"),
    ],
)
def test_check(tmp_path: Path, text: str, status: int, words: str, capsys: Captured) -> None:
    (tmp_path / "shop.py").write_text(text)
    assert main(["check", "--boot-timeout", "1" if "sleep" in text else "30", "shop:app"]) == status
    captured = capsys.readouterr()
    assert words in (captured.err if status else captured.out)
    assert "Traceback" not in captured.err
    assert main(["check", "--workers", "x", "shop:app"]) == 1


@pytest.mark.every_python
@pytest.mark.process
def test_check_config_is_check(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "shop.py").write_text("def app(environ, start_response): ...\n")
    assert main(["serve", "--check-config", "shop:app"]) == 0
    assert capsys.readouterr().out.startswith("OK  shop:app")
