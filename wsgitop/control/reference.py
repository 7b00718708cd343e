"""The reference of the control protocol, made from the methods' table, the schema and the examples:

python -m wsgitop.control.reference > wsgitop/docs/control.md
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from wsgitop.control import messages as m
from wsgitop.control.codec import MOST_BRACKETS
from wsgitop.control.connection import Limits
from wsgitop.control.examples import EXAMPLES
from wsgitop.control.methods import METHODS, Method

HEAD = """# The control protocol

This page is made from the code: `python -m wsgitop.control.reference`.

A master answers on a unix socket (`--control-socket`; otherwise one in a private directory of its user, which
`wsgitop ctl status` finds). What is said there is JSON-RPC 2.0, one JSON object per line, UTF-8. From another
machine the same is said through `wsgitop relay`, over ssh or whatever runs a command there; there is no plain
TCP.

    > {{"jsonrpc": "2.0", "id": 1, "method": "scale", "params": {{"change": 1}}}}
    < {{"jsonrpc": "2.0", "id": 1, "result": {{"text": "2 workers", "generation": 7, "workers": 2}}}}

- Every call has an `id` and gets one answer. Batches are refused. Unknown fields are ignored, here and there:
  fields may be added, their meaning never changes. `hello` tells the protocol's number, now {protocol}.
- Questions are answered at once. Orders are answered when they are **done**, with the outcome; what happens
  meanwhile comes as events. An order is carried out though its giver may be gone.
- An order may have a `key`: to give it again with the same key within ten minutes carries it out once.
- What is aimed at a worker names it by `pid` and `started_at`, as in its snapshot: another process that has
  the same pid by now is never hit.
- Each order leaves an event of the kind `order`: who, what, and what came of it.
- Roles: a **viewer** sees, an **operator** also acts. A viewer sees no tracebacks, no stacks, no log lines
  and none of the last lines of a worker. Who runs the server and root are operators, others what
  `--control-allow` says.

## Limits

A call has at most {frame_bytes:,} bytes, {brackets} brackets and {frame_s:g} s to arrive. {clients} clients
may be connected, {others} of them of users other than the owner and root, {per_user} of each of
those. A client has {calls_in_flight} orders under way at most, and {calls_burst:g} calls at once,
{calls_per_s:g} a second after that. An answer has at most {result:,} bytes, but for snapshots: of what is
longer the newest part is given. A subscriber that does not read gets the newest snapshot when it reads again,
and the number of those (`dropped`) and of the log lines that it has missed.

## Errors

| code | meaning |
|---:|---|
| {parse} | not JSON |
| {invalid} | no call, or the connection is ended: the message says why |
| {unknown} | no such method |
| {params} | the arguments do not fit |
| {internal} | a fault of the server, which is in its log |
| {failed} | it did not work out; `data.remedy` says what to do, `data.detail` may hold a traceback |
| {refused} | the role of this client does not allow it, or the client is turned away |
| {gone} | the process that was meant is not there any more |
| {busy} | something that excludes it is under way |

## Notifications

Behind `subscribe`: `snapshot` (params: Snapshot), `event` (params: Event), `log` (params: LogLine).

    < {{"jsonrpc": "2.0", "method": "event", "params": {event}}}
    < {{"jsonrpc": "2.0", "method": "log", "params": {log_line}}}
"""


def reference() -> str:
    """The whole page, Markdown."""
    limits = Limits()
    event = EXAMPLES["events"].result
    assert isinstance(event, m.EventsResult)
    head = HEAD.format(
        protocol=m.PROTOCOL,
        frame_bytes=limits.frame_bytes,
        brackets=MOST_BRACKETS,
        frame_s=limits.frame_s,
        clients=limits.clients,
        others=limits.clients_of_others,
        per_user=limits.clients_per_user,
        calls_in_flight=limits.calls_in_flight,
        calls_burst=limits.calls_burst,
        calls_per_s=limits.calls_per_s,
        result=m.RESULT_LIMIT_BYTES,
        parse=m.PARSE_ERROR,
        invalid=m.INVALID_REQUEST,
        unknown=m.METHOD_NOT_FOUND,
        params=m.INVALID_PARAMS,
        internal=m.INTERNAL_ERROR,
        failed=m.ACTION_FAILED,
        refused=m.REFUSED,
        gone=m.TARGET_GONE,
        busy=m.BUSY,
        event=_json(event.events[0]),
        log_line=_json(m.LogLine("error", "[2025-11-29 09:00:00 +0000] [4251] [ERROR] …", 2)),
    )
    parts = [head, "\n## Methods\n"]
    parts.extend(_method(row) for row in METHODS.values())
    parts.append("\n## Structures\n")
    parts.extend(_structure(kind) for kind in _structures())
    return "\n".join(parts)


def _method(row: Method) -> str:
    example = EXAMPLES[row.name]
    params = _json(example.arguments, defaults=False)
    call = f'{{"jsonrpc": "2.0", "id": 1, "method": "{row.name}"'
    call += f', "params": {params}}}' if params != "{}" else "}"
    more = ", interrupts requests" if row.interrupts else ""
    lines = [f"### {row.name}", "", f"{row.help} *({row.role}{more})*", ""]
    lines += _fields(row.arguments)
    lines += [
        f"Result: {_type(row.result)}",
        "",
        f"    > {call}",
        f'    < {{"jsonrpc": "2.0", "id": 1, "result": {_json(example.result)}}}',
        "",
    ]
    return "\n".join(lines)


def _structure(kind: type[Any]) -> str:
    text = " ".join((inspect.getdoc(kind) or "").split()).replace("``", "`")
    text = text.replace(":class:", "")
    return "\n".join([f"### {kind.__name__}", "", text, "", *_fields(kind)])


def _fields(kind: type[Any]) -> list[str]:
    fields = msgspec.structs.fields(kind)
    if not fields:
        return []
    hints = get_type_hints(kind)
    lines = ["| field | type | default |", "|---|---|---|"]
    for field in fields:
        default = "" if field.required else f"`{_json(field.default)}`"
        lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {default} |")
    return [*lines, ""]


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_type(arguments[0])}"
        return "[" + ", ".join(_type(part) for part in arguments) + "]"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(kind, str(kind.__name__))


def _structures() -> Iterator[type[Any]]:
    """Every structure that answers and notifications are made of, each once."""
    waiting: list[Any] = [row.result for row in METHODS.values()] + [m.LogLine]
    seen: set[Any] = set()
    while waiting:
        kind = waiting.pop(0)
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if msgspec.structs.fields(kind):
                yield kind
            waiting.extend(get_type_hints(kind).values())
        else:
            waiting.extend(part for part in get_args(kind) if not isinstance(part, str))


def _json(value: object, *, defaults: bool = True) -> str:
    if not defaults and isinstance(value, msgspec.Struct):
        value = _without_defaults(value)
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _without_defaults(value: msgspec.Struct) -> dict[str, object]:
    found = {}
    for field in msgspec.structs.fields(type(value)):
        given = getattr(value, field.name)
        if field.required or given != field.default:
            found[field.name] = given
    return found


if __name__ == "__main__":
    print(reference(), end="")
