"""Which server ``wsgitop ctl`` talks to, and JSON that steers no terminal."""

from __future__ import annotations

import unicodedata

import click
import msgspec

from wsgitop.cli.targets import choose, may_ask_at_terminal, only_one
from wsgitop.client import AsyncClient, Client
from wsgitop.snapshot import HIDDEN_CATEGORIES


def named_target(context: click.Context) -> str | None:
    """The server that was named, before or behind the subcommand."""
    parent = context.parent.params if context.parent is not None else {}
    target = context.params["server"]
    if target is None:
        target = parent.get("server")
    # An empty one is a fault, not the only server: a script's variable may be unset.
    return None if target is None else str(target)


def _remote_command(context: click.Context) -> str:
    parent = context.parent.params if context.parent is not None else {}
    return str(context.params["remote_command"] or parent.get("remote_command", ""))


def make_client(context: click.Context) -> AsyncClient:
    """A client that is not connected yet. Raises CannotConnect if there is not just one such server."""
    target = named_target(context)
    return AsyncClient(only_one() if target is None else target, remote_command=_remote_command(context))


def connect(context: click.Context) -> Client:
    target = named_target(context)
    return Client(
        choose() if target is None else target,
        remote_command=_remote_command(context),
        interactive=may_ask_at_terminal(),
    )


def as_json(context: click.Context) -> bool:
    parent = context.parent.params if context.parent is not None else {}
    return bool(context.params["as_json"] or parent.get("as_json"))


def print_json(value: object, *, lines: bool = False) -> None:
    encoded = msgspec.json.encode(value)
    text = (encoded if lines else msgspec.json.format(encoded, indent=2)).decode()
    # Only control characters below 0x20 are escaped by then, and a terminal may be what reads it.
    click.echo("".join(map(json_escaped, text)) if "\x7f" in text or not text.isascii() else text)


def json_escaped(character: str) -> str:
    """A character of a JSON text, as an escape if it could steer a terminal."""
    if character == "\n" or unicodedata.category(character) not in HIDDEN_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
