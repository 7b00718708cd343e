"""``wsgitop.zygote.probe`` and ``wsgitop.zygote.check``, as the processes that they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.server import APPS, environment
from wsgitop.settings.table import Settings

pytestmark = [pytest.mark.process, pytest.mark.every_python]


def helper(name: str, *args: str, cwd: Path) -> tuple[int, dict[str, Any] | None, str]:
    """Run it: exit status, the object on standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", f"wsgitop.zygote.{name}", *args],
        check=False,
        cwd=cwd,
        env=environment(cwd),
        capture_output=True,
        text=True,
        timeout=20,
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 1, done.stdout
    return done.returncode, json.loads(lines[0]) if lines else None, done.stderr


def check(app: str, cwd: Path = APPS, **settings: Any) -> tuple[int, dict[str, Any] | None, str]:
    chosen = msgspec.to_builtins(Settings(wsgi_app=app, **settings))
    return helper("check", json.dumps({"settings": chosen, "chdir": str(cwd)}), cwd=cwd)


def test_probe(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "import os\nprint('loud')\nos.write(1, b'louder')\nworkers = 3\ndef ssl_context(*args): pass\n"
    )
    status, answer, errors = helper("probe", "conf.py", str(tmp_path), cwd=tmp_path)
    assert status == 0
    assert answer == {
        "path": "conf.py",
        "values": {"workers": 3},
        "notes": ["the hook ssl_context is not run by this version"],
    }
    assert "loud" in errors and "louder" in errors, "what the file prints is no part of the answer"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('no workers today')", "RuntimeError: no workers today"),
        ("import sys; sys.exit('not on this machine')", "SystemExit: not on this machine"),
        ("workers = (", "SyntaxError"),
        (None, "cannot be read"),
    ],
)
def test_probe_that_fails(tmp_path: Path, source: str | None, words: str) -> None:
    if source is not None:
        (tmp_path / "conf.py").write_text(source)
    status, answer, _ = helper("probe", "conf.py", str(tmp_path), cwd=tmp_path)
    assert status == 1 and answer is not None
    assert words in answer["error"]
    assert ("conf.py" in answer["traceback"]) == (source is not None)


def test_probe_of_a_file_that_ends_its_process(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("import os; os._exit(7)")
    assert helper("probe", "conf.py", str(tmp_path), cwd=tmp_path)[:2] == (7, None)


def test_check() -> None:
    status, answer, _ = check("hello:application")
    assert status == 0 and answer is not None
    assert answer["ok"] is True and answer["callable"] and answer["elapsed_s"] >= 0


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("broken_import:application", "a_module_that_nobody_has_installed"),
        ("exits:application", "no licence found"),
        ("not_callable:application", "callable"),
        ("no_such_module:application", "no_such_module"),
        ("hello:no_such_name", "no_such_name"),
    ],
)
def test_check_that_fails(app: str, words: str) -> None:
    status, answer, _ = check(app)
    assert answer is not None
    assert answer["ok"] is False
    assert status == answer["exit_status"] == 4
    assert words in answer["error"] + answer["traceback"]
    assert "\n" not in answer["error"]


def test_check_sees_the_environment_and_the_directory(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helper.py").write_text("import os\nassert os.environ['COLOUR'] == 'red'\n")
    (tmp_path / "site" / "where.py").write_text(
        "import os, helper\nassert os.getcwd().endswith('site')\ndef app(environ, start_response): ...\n"
    )
    status, answer, _ = check(
        "where:app", tmp_path, chdir="site", pythonpath=str(tmp_path / "lib"), raw_env=("COLOUR=red",)
    )
    assert status == 0, answer


@pytest.mark.parametrize(("setting", "mask"), [(0, 0o027), (0o007, 0o007)])
def test_the_applications_umask_is_the_inherited_one_unless_it_is_set(
    tmp_path: Path, setting: int, mask: int
) -> None:
    """gunicorn's default of 0 is for unix sockets; files that anybody may write to are none of its doing."""
    source = f"import os\nassert os.umask(0) == {mask}\ndef app(environ, start_response): ...\n"
    (tmp_path / "masked.py").write_text(source)
    before = os.umask(0o027)
    try:
        status, answer, _ = check("masked:app", tmp_path, umask=setting)
    finally:
        os.umask(before)
    assert status == 0, answer


def test_of_several_directories_the_last_comes_first_as_in_gunicorn(tmp_path: Path) -> None:
    for name in ("a", "b", "site"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which.py").write_text(f"NAME = {name!r}\n")
    source = "import which\nassert which.NAME == 'b'\ndef app(environ, start_response): ...\n"
    (tmp_path / "site" / "where.py").write_text(source)
    paths = f"{tmp_path / 'a'}, {tmp_path / 'b'}"
    status, answer, _ = check("where:app", tmp_path, chdir="site", pythonpath=paths)
    assert status == 0, answer


@pytest.mark.parametrize(
    ("settings", "words"), [({"chdir": "missing"}, "--chdir"), ({"raw_env": ("RED",)}, "NAME=VALUE")]
)
def test_check_of_bad_settings(settings: dict[str, Any], words: str) -> None:
    status, answer, _ = check("hello:application", **settings)
    assert status == 1 and answer is not None
    assert words in answer["error"] + answer["remedy"]


def test_helpers_leave_no_bytecode_of_the_check(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("workers = 1")
    helper("probe", "conf.py", str(tmp_path), cwd=tmp_path)
    assert os.listdir(tmp_path) == ["conf.py"]  # noqa: PTH208 - names only
