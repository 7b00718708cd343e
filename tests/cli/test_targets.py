"""Which server is meant, and where it is after it was started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgitop.cli import targets
from wsgitop.cli.main import main
from wsgitop.control.claim import Claim, claim
from wsgitop.control.runtime_dir import Found
from wsgitop.errors import CannotConnect

ENDED = Found(41, 1000.0, "shop:app", "shop", ("127.0.0.1:8000",), "/run/wsgitop/shop-41/control.sock")
AGAIN = Found(77, 2000.0, "shop:app", "shop", ("127.0.0.1:8000",), "/run/wsgitop/shop-77/control.sock")
OLDER = Found(12, 500.0, "shop:app", "shop", ("127.0.0.1:8000",), "/run/wsgitop/shop-12/control.sock")
OTHER = Found(90, 2000.0, "shop:app", "shop", ("127.0.0.1:9000",), "/run/wsgitop/shop-90/control.sock")
TWIN = Found(91, 3000.0, "shop:app", "shop", ("127.0.0.1:8000",), "/run/wsgitop/shop-91/control.sock")


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ([ENDED], ENDED),
        ([ENDED, AGAIN], ENDED),
        ([AGAIN], AGAIN),
        ([AGAIN, OTHER], AGAIN),
        ([], ENDED),
        ([OLDER], ENDED),
        ([OTHER], ENDED),
        ([AGAIN, TWIN], ENDED),
    ],
)
def test_a_server_that_was_started_again_is_followed_and_no_other_is_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, running: list[Found], expected: Found
) -> None:
    monkeypatch.setattr(targets, "running", lambda: running)
    assert targets.whereabouts(ENDED.control, ENDED) == expected.control


def test_a_socket_of_a_server_that_cannot_be_found_is_taken_as_it_is() -> None:
    assert targets.whereabouts("/run/site/control.sock", None) == "/run/site/control.sock"


def test_who_must_name_a_server_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "running", lambda: [AGAIN, OTHER])
    with pytest.raises(CannotConnect) as refused:
        targets.choose()
    assert "`wsgitop ctl -s 77 status`" in refused.value.remedy


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Claim:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    held = claim("", name="shop")
    held.announce(Found(4242, 1.0, "shop:app", "shop", (), held.path))
    return held


@pytest.mark.parametrize("words", [("attach", ""), ("ctl", "-s", "", "stop"), ("ctl", "stop", "-s", "")])
def test_an_empty_target_is_not_the_only_server(
    words: tuple[str, ...], shop: Claim, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-s "$SOCKET"`` with the variable unset must not stop some other server."""
    monkeypatch.setattr("wsgitop.tui.terminal.require_terminal", lambda: None)
    try:
        assert main(words) == 2
    finally:
        shop.close()
    assert "the target is empty" in capsys.readouterr().err
