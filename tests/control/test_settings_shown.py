"""Settings as they are shown: every one of them, and no secret."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.control.settings_shown import HIDDEN, as_text, hide, shown
from wsgitop.settings.table import TABLE, Settings


def test_every_setting_is_shown_with_its_source() -> None:
    settings = msgspec.structs.replace(Settings(), workers=3, umask=0o27, preload_app=True)
    found = {one.name: one for one in shown(settings, {"workers": "command line\x1b[2J"})}
    assert list(found) == list(TABLE)
    assert (found["workers"].value, found["workers"].default) == ("3", "1")
    assert found["workers"].source == "command line\\x1b[2J"
    assert (found["umask"].value, found["preload_app"].value) == ("0o027", "true")
    assert found["bind"].value == "127.0.0.1:8000" and found["bind"].source == ""
    assert found["timeout"].value == "30" and found["timeout"].flags == ("-t", "--timeout")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("raw_env", ("DJANGO_SETTINGS_MODULE=shop.settings", "KEY=hunter2")),
        ("wsgi_app", "shop:create_app(password='hunter2')"),
        ("wsgi_app", 'shop:create_app(api_key = "hunter2", debug=True)'),
        ("statsd_host", "https://user:hunter2@metrics.example/x"),
        ("syslog_addr", "tcp://hunter2@host:514"),
        ("logconfig_dict", {"handlers": {"mail": {"credentials": ("user", "hunter2"), "level": "INFO"}}}),
        ("logconfig_dict", {"x": ["token=hunter2", {"SECRET_KEY": "hunter2"}]}),
        ("dogstatsd_tags", "env:prod,auth-token:hunter2"),
    ],
)
def test_secrets_are_hidden(name: str, value: object) -> None:
    text = as_text(name, value)
    assert "hunter2" not in text and HIDDEN in text


@pytest.mark.parametrize(
    "text", ["0.0.0.0:8000", "unix:/run/shop.sock", "shop.wsgi:application", "udp://localhost:514", "%(h)s"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide(text) == text
    assert as_text("wsgi_app", "auth.session:application") == "auth.session:application"


@given(
    st.sampled_from(["password", "SECRET_KEY", "db_dsn", "AuthToken"]),
    st.text(st.characters(categories=["L", "N"]), min_size=4),
)
def test_what_is_assigned_to_a_secret_name_never_shows(name: str, value: str) -> None:
    for text in (f"{name}={value}", f"x:y({name}='{value}')", f"{name}: {value}"):
        assert not hide(text).removeprefix(name).count(value), text
