"""Code that has changed on disk since it was loaded."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.release import APP, write_version
from tests.support.waiting import eventually
from wsgitop.channel.messages import SourceFile
from wsgitop.master.code_on_disk import INTERVAL_S, CodeOnDisk, changed
from wsgitop.worker.module_files import source_files


def stamped(*paths: Path) -> list[SourceFile]:
    return [SourceFile(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths]


async def settled(code: CodeOnDisk) -> None:
    """Wait for the look that is going on; its result arrives behind it."""
    assert code._looking is not None
    await asyncio.to_thread(code._looking.join, 10)
    await asyncio.sleep(0)


def test_what_counts_as_changed(tmp_path: Path) -> None:
    same, touched, grown, gone = (
        tmp_path / name for name in ("same.py", "touched.py", "grown.py", "gone.py")
    )
    for path in (same, touched, grown, gone):
        path.write_text("x = 1\n")
    known = {file.name: (file.mtime_ns, file.size) for file in stamped(same, touched, grown, gone)}
    assert changed(known) == []
    os.utime(touched, ns=(1, 1))
    stamp = grown.stat().st_mtime_ns
    grown.write_text("x = 10\n")
    os.utime(grown, ns=(stamp, stamp))  # rsync and tar set the time that the file had elsewhere
    gone.unlink()
    assert changed(known) == [str(gone), str(grown), str(touched)]


def test_it_looks_at_the_generation_that_serves_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "views.py"
    path.write_text("x = 1\n")

    async def scenario() -> None:
        code = CodeOnDisk()
        code.look(1, 0.0, home="/")
        assert code._looking is None, "nothing is known of it"
        code.add(1, stamped(path))
        code.look(1, 0.0, home=str(tmp_path))
        await settled(code)
        assert code.stale == {}
        os.utime(path, ns=(1, 1))
        code.add(1, stamped(path))  # a successor of the worker has loaded what is there now; others have not
        looked = code._looking
        code.look(1, INTERVAL_S - 1, home=str(tmp_path))
        assert code._looking is looked, "not yet again"
        code.look(1, INTERVAL_S, home=str(tmp_path))
        await settled(code)
        assert code.stale == {1: "file changed: views.py"}
        code.add(2, stamped(path))
        code.look(2, 2 * INTERVAL_S, home=str(tmp_path))
        await settled(code)
        assert code.stale == {1: "file changed: views.py"}
        code.keep([2])
        assert code.stale == {}

    asyncio.run(scenario())


def test_the_files_of_this_process_are_its_own() -> None:
    names = {file.name for file in source_files()}
    assert __file__ in names
    assert not any(
        "site-packages" in name or name.startswith(str(Path(os.__file__).parent)) for name in names
    )


@pytest.mark.process
def test_a_deploy_without_a_reload_shows_and_a_reload_ends_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Deployed by a symbolic link, as deployment tools do. Nobody watches before it, so that the first look
    need not be waited for."""
    for version in (7, 8):
        write_version(tmp_path / "releases" / str(version), version)
    (tmp_path / "current").symlink_to("releases/7")
    server = start_server(APP, "--workers", "2", "--chdir", str(tmp_path / "current"), cwd=tmp_path)
    (tmp_path / "next").symlink_to("releases/8")
    (tmp_path / "next").rename(tmp_path / "current")

    with server.client() as client:

        def stale() -> list[str]:
            return [one.stale for one in client.status().generations]

        with server.client() as watching:
            news = watching.subscribe(0.25)
            next(news)
            eventually(lambda: stale()[0].startswith("file changed: "), what="stale code")
            client.reload()
            assert stale()[-1] == "", "the new generation has what is on disk"
