"""Whatever bytes arrive: an error object, a closed connection, and the server serves on."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.control.fake_backend import PATIENT, FakeBackend, RawClient, raw_client, serving
from wsgitop.control import messages as m
from wsgitop.control.codec import CallFault, decode_arguments, decode_request
from wsgitop.control.methods import METHODS

FRAMES = 3000
HELLO = b'{"jsonrpc":"2.0","id":"last","method":"hello"}\n'

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
        assert fault.error.code in (m.INVALID_PARAMS, m.PARSE_ERROR)


def hostile_frame(random_: random.Random) -> bytes:
    """Rubbish, almost calls, and calls with wrong arguments. Never a newline inside."""
    method = random_.choice([*METHODS, "x", "", "__class__", "\u202e"])
    values = [None, 0, -1, 2**70, 1.5, "", "x" * 500, [], {}, [[[[]]]], {"a": {"b": []}}, True]
    match random_.randrange(6):
        case 0:
            return bytes(random_.choice(range(256)) for _ in range(random_.randrange(80))).replace(b"\n", b"")
        case 1:
            names = [
                "workers",
                "change",
                "signal",
                "pid",
                "started_at",
                "interval_s",
                "after",
                "limit",
                "seconds",
            ]
            params = {random_.choice(names): random_.choice(values) for _ in range(random_.randrange(4))}
            call = {"jsonrpc": "2.0", "id": random_.choice(values), "method": method, "params": params}
            return json.dumps(call).encode()
        case 2:
            whole = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
            at = random_.randrange(len(whole))
            return whole[:at] + bytes([random_.choice([0, 34, 92, 123, 255])]) + whole[at + 1 :]
        case 3:
            return random_.choice([b"[", b'{"a":', b"{", b'"']) * random_.randrange(1, 3000)
        case 4:
            return json.dumps(random_.choice(values)).encode()
        case _:
            return json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": method, "params": random_.choice(values)}
            ).encode()


async def drain(client: RawClient) -> int:
    """Read until the answer to the last call; the number of answers."""
    answers = 0
    while True:
        frame = await client.frame()
        if "method" in frame:
            continue
        answers += 1
        assert ("result" in frame) != ("error" in frame)
        if frame["id"] == "last":
            return answers


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_hostile_frames(runtime_dir: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    random_ = random.Random(seed)

    async def attack() -> None:
        path = runtime_dir / "c.sock"
        backend = FakeBackend(workers=1)
        async with serving(path, backend, limits=PATIENT), raw_client(path) as client, asyncio.timeout(30):
            for _ in range(FRAMES // 4 // 50):
                frames = [hostile_frame(random_) for _ in range(50)]
                backend.wanted = 1
                reader = asyncio.create_task(drain(client))
                await client.send(b"".join(frame + b"\n" for frame in frames) + HELLO)
                # Every frame has an answer, but for those that are blank.
                assert await reader >= sum(1 for frame in frames if frame.strip()) - PATIENT.calls_in_flight
            for kind in range(20):
                async with raw_client(path) as victim:
                    await victim.send(random_.randbytes(random_.randrange(1, 5000)))
                    if kind % 2:
                        victim.writer.transport.abort()
            assert "result" in await client.call("hello", call_id="still there")

    asyncio.run(attack())
