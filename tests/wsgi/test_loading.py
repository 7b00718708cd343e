"""Applications by name, and what is said when there is none."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from wsgitop.errors import AppImportError
from wsgitop.wsgi.loading import load_app

SITE = """
def application(environ, start_response): return [b"application"]
def app(environ, start_response): return [b"app"]
nothing = None
number = 5
class Site:
    wsgi = staticmethod(app)
site = Site()
def make(name, *, debug=False):
    def made(environ, start_response): return [f"{name} {debug}".encode()]
    return made
def fails(): raise RuntimeError("no database")
def asks(): raise SystemExit("usage: asks")
"""

MODULES = {
    "good_site": SITE,
    "needs_missing": "import nowhere_to_be_found.at_all",
    "needs_missing_below": "import needs_missing",
    "bad_syntax": "def broken(:\n",
    "raises": "def deep():\n    raise RuntimeError('the database is away')\ndeep()\n",
    "leaves": "raise SystemExit(2)",
    "misspelled": "from good_site import application as app",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [*MODULES, "package"]:
        monkeypatch.delitem(sys.modules, name, raising=False)


def call(spec: str) -> bytes:
    return b"".join(load_app(spec)({}, lambda status, headers, exc_info=None: lambda data: None))


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("good_site", b"application"),
        ("good_site:app", b"app"),
        ("good_site:site.wsgi", b"app"),
        ("good_site:make('x')", b"x False"),
        ("good_site:make('x', debug=True)", b"x True"),
    ],
)
def test_loads(spec: str, answer: bytes) -> None:
    assert call(spec) == answer


@pytest.mark.parametrize(
    ("spec", "cause", "remedy"),
    [
        ("", "names no application", "MODULE:CALLABLE"),
        (":app", "names no application", "MODULE:CALLABLE"),
        ("good_site:", "names no application", "MODULE:CALLABLE"),
        ("good_site.py", "is a path", "good_site:application"),
        ("sub/good_site.py:app", "is a path", "sub.good_site:app"),
        ("good_site:a b", "neither a name nor a call", "MODULE:NAME"),
        ("good_site:[1]", "neither a name nor a call", "MODULE:NAME"),
        ("nowhere", "No module named 'nowhere'", "--chdir"),
        ("package.nowhere:app", "No module named 'package.nowhere'", "--chdir"),
        ("needs_missing", "imports 'nowhere_to_be_found', which is not installed", "Install"),
        ("needs_missing_below", "imports 'nowhere_to_be_found', which is not installed", "Install"),
        ("bad_syntax", "cannot be imported: SyntaxError", "--debug"),
        ("raises", "cannot be imported: RuntimeError: the database is away", "--debug"),
        ("leaves", "cannot be imported: SystemExit: 2", "--debug"),
        ("misspelled", "has no 'application'", "misspelled:app"),
        ("good_site:missing", "has no 'missing'", "good_site:application or good_site:app"),
        ("good_site:nothing", "is None", "callable"),
        ("good_site:number", "is not callable: it is of type int", "good_site:application"),
        ("good_site:number()", "is not callable, so it cannot be a factory", "number"),
        ("good_site:make(x)", "are not literals", "strings"),
        ("good_site:make(**{})", "are not literals", "strings"),
        ("good_site:make()", "does not take these arguments", "arguments"),
        ("good_site:fails()", "failed: RuntimeError: no database", "--debug"),
        ("good_site:asks()", "failed: SystemExit: usage: asks", "--debug"),
    ],
)
def test_says_why_not(spec: str, cause: str, remedy: str) -> None:
    with pytest.raises(AppImportError) as caught:
        load_app(spec)
    assert cause in caught.value.cause and "\n" not in caught.value.cause
    assert remedy in caught.value.remedy and "\n" not in caught.value.remedy


def test_the_traceback_shows_the_module_and_not_the_machinery() -> None:
    with pytest.raises(AppImportError) as caught:
        load_app("raises")
    text = caught.value.traceback
    assert "raises.py" in text and "in deep" in text and text.rstrip().endswith("the database is away")
    assert "importlib" not in text and "loading.py" not in text


@pytest.mark.parametrize(
    ("module", "query"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
def test_monkey_patched_processes_are_refused(
    module: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = types.ModuleType(module)
    setattr(library, query, lambda name: name == "socket")
    monkeypatch.setitem(sys.modules, module, library)
    with pytest.raises(AppImportError, match="wsgitop serves with threads"):
        load_app("good_site")
    setattr(library, query, lambda name: False)
    assert call("good_site") == b"application"
