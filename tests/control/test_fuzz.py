"""Whatever bytes arrive: an error object, a closed connection, and the server serves on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.control.fake_backend import PATIENT, FakeBackend, RawClient, raw_client, serving
from wsgitop.control import messages as m
from wsgitop.control.codec import CallFault, decode_arguments, decode_request
from wsgitop.control.methods import METHODS
from wsgitop.control.server import ControlServer

FRAMES = 100_000
AT_ONCE = 16
"""Connections that send at the same time, and frames that each has under way."""
PIPELINED = 64
HELLO = b'{"jsonrpc":"2.0","id":"last","method":"hello"}\n'
STALL_S = 5.0

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_frame_is_a_call_or_a_fault(frame: bytes) -> None:
    try:
        request = decode_request(frame)
        decode_arguments(request, m.ScaleArguments)
    except CallFault as fault:
        assert fault.error.message


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(method=st.sampled_from(sorted(METHODS)), params=JSON)
def test_any_arguments_are_read_or_refused(method: str, params: object) -> None:
    frame = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    try:
        decode_arguments(decode_request(frame), METHODS[method].arguments)
    except CallFault as fault:
        assert fault.error.code in (m.INVALID_PARAMS, m.PARSE_ERROR, m.INVALID_REQUEST)


# -- a hundred thousand frames -------------------------------------------------------------------------------

VALUES = [None, 0, -1, 2**70, 1.5, "", "x" * 500, [], {}, [[[[]]]], {"a": {"b": []}}, True, "\x1b[2J\u202e"]
NAMES = ["workers", "change", "signal", "pid", "started_at", "interval_s", "after", "limit", "seconds", "key"]
ODD_BYTES = [0, 34, 44, 58, 91, 92, 93, 123, 125, 127, 192, 255]


def made_json() -> list[bytes]:
    """JSON of all shapes, as hypothesis thinks of it."""
    found: list[bytes] = []

    @settings(max_examples=300, database=None, derandomize=True, phases=[Phase.generate])
    @given(JSON)
    def collect(value: object) -> None:
        found.append(json.dumps(value).encode())

    collect()
    return found


def a_call(random_: random.Random, params: object = None) -> bytes:
    method = random_.choice([*METHODS, "x", "", "__class__", "\u202e"])
    if params is None:
        params = {random_.choice(NAMES): random_.choice(VALUES) for _ in range(random_.randrange(4))}
    call_id = random_.choice([1, 1, 1, "a", *VALUES])
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}).encode()


def mutated(random_: random.Random, frame: bytes) -> bytes:
    """A frame with a few bytes changed, lost, doubled or cut off."""
    changed = bytearray(frame)
    for _ in range(random_.randrange(1, 4)):
        at = random_.randrange(len(changed) or 1)
        match random_.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([random_.choice(ODD_BYTES)])
            case 1:
                del changed[at : at + random_.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + random_.randrange(1, 40)]
            case _:
                changed[at:] = b""
    return bytes(changed)


def hostile_frame(random_: random.Random, shapes: list[bytes]) -> bytes:
    """Rubbish, almost calls, and calls with wrong arguments. Never a newline inside."""
    match random_.randrange(7):
        case 0:
            return random_.randbytes(random_.randrange(80)).replace(b"\n", b"")
        case 1 | 2:
            return a_call(random_)
        case 3:
            return mutated(random_, a_call(random_)).replace(b"\n", b"")
        case 4:
            opening = random_.choice([b"[", b'{"a":', b"{", b'"', b'"a":', b"\\u0000", b" "])
            return opening * random_.choice([1, 30, 63, 64, 65, 1023, 1025])
        case 5:
            return random_.choice(shapes)
        case _:
            return a_call(random_, json.loads(random_.choice(shapes)))


async def drain(client: RawClient, expected: int) -> None:
    """Read so many answers, that to the last call among them: an order's may come after it."""
    last = False
    while expected:
        async with asyncio.timeout(STALL_S):
            line = await client.reader.readline()
        assert line, "the connection has ended"
        frame = json.loads(line)
        if "method" in frame:
            continue
        expected -= 1
        assert ("result" in frame) != ("error" in frame)
        last = last or frame["id"] == "last"
    assert last


class QuickBackend(FakeBackend):
    """Its picture is always the same: what is tested is not how it is made. It remembers no orders."""

    def __init__(self) -> None:
        super().__init__(workers=1)
        self._picture = super().snapshot()

    def snapshot(self) -> object:  # type: ignore[override]
        return self._picture

    def history(self, seconds: int) -> list[object]:  # type: ignore[override]
        return []

    def note(self, severity: str, kind: str, text: str, actor: str) -> None:
        pass

    async def _do(self, name: str, arguments: object, actor: str) -> m.Outcome:
        return m.Outcome(f"{name} is done", 7, 1, 0.5)


async def settled(server: ControlServer) -> None:
    """Return when nobody is connected and nothing is under way."""
    async with asyncio.timeout(STALL_S):
        while server._connections or server._connecting or server._places.taken:
            await asyncio.sleep(0.002)


async def attack(path: Path, batches: list[list[bytes]]) -> None:
    """Send all batches over connections that come and go. Some end in the middle of a frame."""

    async def one(number: int) -> None:
        mine = batches[number::AT_ONCE]
        for start in range(0, len(mine), 8):
            async with raw_client(path) as client:
                for batch in mine[start : start + 8]:
                    # Every frame has an answer, but for those that are blank.
                    expected = sum(1 for frame in batch if frame.strip()) + 1
                    reader = asyncio.create_task(drain(client, expected))
                    await client.send(b"".join(frame + b"\n" for frame in batch) + HELLO)
                    await reader
                await client.send(mine[start][0][: start % 50])
                if start % 16:
                    client.writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(one(number))


@pytest.mark.slow
def test_a_hundred_thousand_hostile_frames(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    random_ = random.Random(20)
    shapes = made_json()
    frames = [hostile_frame(random_, shapes) for _ in range(FRAMES)]
    batches = [frames[at : at + PIPELINED] for at in range(0, FRAMES, PIPELINED)]

    async def main() -> None:
        path = runtime_dir / "c.sock"
        process = psutil.Process()
        async with serving(path, QuickBackend(), limits=PATIENT) as (server, _):
            warm = len(batches) // 10
            await attack(path, batches[:warm])
            await settled(server)
            gc.collect()
            before = process.memory_info().rss, process.num_fds(), len(asyncio.all_tasks())
            await attack(path, batches[warm:])
            await settled(server)
            gc.collect()
            after = process.memory_info().rss, process.num_fds(), len(asyncio.all_tasks())
            assert after[0] < before[0] + 16 * 1024 * 1024
            assert after[1:] == before[1:]
            async with raw_client(path) as client:
                assert "result" in await client.call("hello", call_id="still there")
                assert "result" in await client.call("scale", {"workers": 2})

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(2))
def test_bytes_without_any_order(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Not even frames: each connection ends, or is answered."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    random_ = random.Random(seed)

    async def main() -> None:
        path = runtime_dir / "c.sock"
        async with serving(path, QuickBackend(), limits=PATIENT) as (server, _):
            for number in range(100):
                async with raw_client(path) as victim:
                    with contextlib.suppress(ConnectionError):
                        await victim.send(random_.randbytes(random_.choice([1, 50, 5000, 70_000])))
                        if number % 3 == 0:
                            victim.writer.transport.abort()
                        else:
                            victim.writer.write_eof()
                            for line in (await victim.at_end()).splitlines():
                                assert json.loads(line)["error"]["message"]
            await settled(server)
            async with raw_client(path) as client:
                assert "result" in await client.call("hello")

    asyncio.run(main())
