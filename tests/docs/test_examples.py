"""The example files: each is checked, by the program it is for where that is installed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import click
import pytest

from tests.support import nginx

EXAMPLES = Path(str(files("wsgitop"))) / "examples"


def _serve_command() -> click.Command:
    from wsgitop.cli.serve import command

    return command


def _parse(words: list[str]) -> None:
    """Fail if ``wsgitop serve`` does not know these words."""
    _serve_command().make_context("serve", words)


def test_systemd_unit(tmp_path: Path) -> None:
    text = (EXAMPLES / "systemd" / "mysite.service").read_text()
    start = re.search(r"^ExecStart=(.*?[^\\])$", text, re.MULTILINE | re.DOTALL)
    assert start
    program, command, *words = shlex.split(start[1].replace("\\\n", " "))
    assert (program.rpartition("/")[2], command) == ("wsgitop", "serve")
    _parse(words)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    text = (EXAMPLES / "systemd" / "mysite.service").read_text()
    # The program and the user of the example do not exist here.
    text = text.replace("/srv/mysite/venv/bin/wsgitop", "/bin/true").replace(
        "User=mysite\nGroup=mysite\n", ""
    )
    unit, sockets = tmp_path / "mysite.service", tmp_path / "mysite.socket"
    unit.write_text(text.replace("/srv/mysite/current", "/"))
    sockets.write_text((EXAMPLES / "systemd" / "mysite.socket").read_text())
    result = subprocess.run(
        ["systemd-analyze", "verify", str(unit), str(sockets)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in result.stderr.splitlines() if "mysite.s" in line]
    assert complaints == [], result.stderr


def test_docker_command() -> None:
    text = (EXAMPLES / "docker" / "Dockerfile").read_text()
    (check,) = re.findall(r"^    CMD (\[.*\])$", text, re.MULTILINE)
    assert "/healthy" in json.loads(check)[2]
    compile(json.loads(check)[2], "healthcheck", "exec")
    found = re.search(r"^CMD \[(.*)\]$", text, re.MULTILINE | re.DOTALL)
    assert found
    program, command, *words = re.findall(r'"([^"]*)"', found[1])
    assert (program, command) == ("wsgitop", "serve")
    _parse(words)


def test_kubernetes_arguments() -> None:
    text = (EXAMPLES / "kubernetes" / "mysite.yaml").read_text()
    found = re.search(r"args: \[(.*?)\]", text, re.DOTALL)
    assert found
    program, command, *words = [word.strip().strip('"') for word in found[1].split(",")]
    assert (program, command) == ("wsgitop", "serve")
    _parse(words)
    assert "\t" not in text
    seconds = re.search(r"terminationGracePeriodSeconds: (\d+)", text)
    assert seconds and int(seconds[1]) > 30 + 5, "longer than --graceful-timeout and preStop"


@pytest.mark.skipif(nginx.PROGRAM is None, reason="needs nginx")
def test_nginx_site_is_accepted_by_nginx(tmp_path: Path) -> None:
    site = (EXAMPLES / "nginx" / "mysite.conf").read_text()
    (tmp_path / "site.conf").write_text(site.replace("listen 80;", "listen 127.0.0.1:65000;"))
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; include {tmp_path}/site.conf; }}\n"
    )
    words = [str(nginx.PROGRAM), "-t", "-c", str(main), "-p", str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "syntax is ok" in result.stderr, result.stderr
    assert "test is successful" in result.stderr, result.stderr
