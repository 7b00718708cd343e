"""Secrets in what people read: no part of one is left, and what is none stays as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgitop.settings.hidden import HIDDEN, hide, shown_app


@pytest.mark.parametrize(
    ("app", "shown"),
    [
        ("shop:make(password='hunter2')", f"shop:make(password={HIDDEN})"),
        ("shop:make(password=b'hunter2', debug=True)", f"shop:make(password={HIDDEN}, debug=True)"),
        (r"shop.wsgi:make(api_key='a\'hunter2')", f"shop.wsgi:make(api_key={HIDDEN})"),
        ("a:f(passwords=['x', 'hunter2'], n=1)", f"a:f(passwords={HIDDEN}, n=1)"),
        ("a:f(config={'password': 'hunter2', 'n': 1})", f"a:f(config={{'password': {HIDDEN}, 'n': 1}})"),
        ("a:f(config=[{'db': {'TOKEN': 'hunter2'}}])", f"a:f(config=[{{'db': {{'TOKEN': {HIDDEN}}}}}])"),
        ("a:f('postgres://u:hunter2@db/x')", f"a:f('postgres://{HIDDEN}@db/x')"),
        ("a:f('Authorization: Bearer hunter2')", f"a:f('Authorization: {HIDDEN}')"),
        ("a:f(password='hunter2", f"a:f(password={HIDDEN}"),
        ("a:f(password=b'hunter2", f"a:f(password={HIDDEN}"),
        ("a:f(x=g(), token='hunter2')", f"a:f(x=g(), token={HIDDEN})"),
    ],
)
def test_an_applications_secrets(app: str, shown: str) -> None:
    assert shown_app(app) == shown


@pytest.mark.parametrize(
    "app",
    [
        "",
        "shop",
        "shop:app",
        "auth.session:token",
        'a:f("x",  debug = True)',
        "a:f(1, [2], {'k': 3})",
        "a:b c",
    ],
)
def test_an_application_without_secrets_is_shown_as_it_was_written(app: str) -> None:
    assert shown_app(app) == app


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://user:p@ss/w@rd@db:5432/shop", f"postgres://{HIDDEN}@db:5432/shop"),
        ("redis://:a/b@cache", f"redis://{HIDDEN}@cache"),
        ("'amqp://u:p@mq' 'http://plain/x'", f"'amqp://{HIDDEN}@mq' 'http://plain/x'"),
        ("Authorization: Bearer abc", f"Authorization: {HIDDEN}"),
        ("'Authorization': 'Basic abc=='", f"'Authorization': {HIDDEN}"),
        ("proxy-authorization: token abc, x", f"proxy-authorization: {HIDDEN}, x"),
        ("password=b'abc' x", f"password={HIDDEN} x"),
        ("password='a b", f"password={HIDDEN} b"),
    ],
)
def test_credentials(text: str, shown: str) -> None:
    assert hide(text) == shown


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), min_size=5))
def test_no_literal_of_a_secret_name_is_left(value: str) -> None:
    value = f"hunter{value}2"
    for app in (f"a:f(password={value!r})", f"a:f(1, x={{'secret': {value.encode()!r}}})"):
        assert "hunter" not in shown_app(app)
