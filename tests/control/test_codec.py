"""Frames, calls and answers as plain data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control.fake_backend import FakeBackend
from wsgitop.control import messages as m
from wsgitop.control.codec import (
    CallFault,
    FrameTooLong,
    Splitter,
    decode_arguments,
    decode_request,
    decode_response,
    encode_error,
    encode_event,
    encode_request,
    encode_result,
    encode_snapshot,
)
from wsgitop.control.faults import Busy, TargetGone, as_error, as_fault
from wsgitop.errors import ActionFailed, AppImportError, ProtocolError, Refused, UsageError, WsgitopError
from wsgitop.snapshot import Event, Snapshot


@given(st.lists(st.binary().map(lambda b: b.replace(b"\n", b""))), st.integers(1, 20))
def test_frames_come_out_however_they_are_cut(frames: list[bytes], step: int) -> None:
    stream = b"".join(frame + b"\n" for frame in frames)
    splitter, found = Splitter(10_000), []
    for at in range(0, len(stream), step):
        splitter.feed(stream[at : at + step])
        while (frame := splitter.next_frame()) is not None:
            found.append(frame)
    assert found == frames
    assert not splitter.has_bytes


@pytest.mark.parametrize(
    ("data", "frames", "too_long"),
    [
        (b"1234567\n", [b"1234567"], False),
        (b"12345678\n", [b"12345678"], False),
        (b"123456789\n", [], True),
        (b"12345678", [], False),
        (b"123456789", [], True),
        (b"a\n" + b"123456789", [b"a"], True),
        (b"a\n" * 100, [b"a"] * 100, False),
    ],
)
def test_the_limit_of_a_frame(data: bytes, frames: list[bytes], too_long: bool) -> None:
    splitter = Splitter(8)
    splitter.feed(data)
    found = []
    try:
        while (frame := splitter.next_frame()) is not None:
            found.append(frame)
    except FrameTooLong:
        assert too_long
    else:
        assert not too_long
    assert found == frames


@pytest.mark.parametrize(
    ("frame", "code", "call_id"),
    [
        (b"", m.PARSE_ERROR, None),
        (b"{", m.PARSE_ERROR, None),
        (b"\xff\xfe", m.PARSE_ERROR, None),
        (b"[" * 60_000, m.PARSE_ERROR, None),
        (b"{" + b'"a":1,' * 2_000 + b'"b":1}', m.PARSE_ERROR, None),
        (b'{"params":' * 6_000, m.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b"[" * 50_000, m.PARSE_ERROR, None),
        (b"[]", m.INVALID_REQUEST, None),
        (b"1", m.INVALID_REQUEST, None),
        (b"null", m.INVALID_REQUEST, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"status"}]', m.INVALID_REQUEST, None),
        (b'{"id":7}', m.INVALID_REQUEST, 7),
        (b'{"id":7,"method":8}', m.INVALID_REQUEST, 7),
        (b'{"id":1.5,"method":"status"}', m.INVALID_REQUEST, None),
        (b'{"id":{},"method":"status"}', m.INVALID_REQUEST, None),
        (b'{"jsonrpc":"1.0","id":"x","method":"status"}', m.INVALID_REQUEST, "x"),
        (b'{"jsonrpc":"2.0","method":"status"}', m.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"status"}', m.INVALID_REQUEST, None),
    ],
)
def test_what_is_no_call_is_refused(frame: bytes, code: int, call_id: object) -> None:
    with pytest.raises(CallFault) as fault:
        decode_request(frame)
    assert fault.value.error.code == code
    assert fault.value.call_id == call_id


def test_unknown_fields_are_passed_over() -> None:
    request = decode_request(
        b'{"jsonrpc":"2.0","id":1,"method":"scale","params":{"change":1,"new":2},"x":[]}'
    )
    assert decode_arguments(request, m.ScaleArguments) == m.ScaleArguments(change=1)


@pytest.mark.parametrize(
    "params", [b"[1]", b"1", b'{"change":"1"}', b'{"change":1.5}', b'"x"', b'{"a":' * 9000]
)
def test_wrong_arguments_are_refused(params: bytes) -> None:
    with pytest.raises(CallFault) as fault:
        frame = b'{"jsonrpc":"2.0","id":1,"method":"scale","params":' + params
        decode_arguments(decode_request(frame + b"}"), m.ScaleArguments)
    assert fault.value.error.code in (m.INVALID_PARAMS, m.PARSE_ERROR)


@pytest.mark.parametrize("params", [b"null", b"{}"])
def test_arguments_may_be_left_out(params: bytes) -> None:
    request = decode_request(b'{"jsonrpc":"2.0","id":1,"method":"status","params":' + params + b"}")
    assert decode_arguments(request, m.NoArguments) == m.NoArguments()


def test_a_call_is_read_as_it_was_written() -> None:
    frame = encode_request(3, "scale", m.ScaleArguments(workers=4))
    assert frame.endswith(b"}\n")
    request = decode_request(frame[:-1])
    assert (request.id, request.method) == (3, "scale")
    assert decode_arguments(request, m.ScaleArguments) == m.ScaleArguments(workers=4)


def test_answers_are_read_as_they_were_written() -> None:
    done = decode_response(encode_result(1, {"text": "a\nb"}))
    assert json.loads(bytes(done.result)) == {"text": "a\nb"}
    failed = decode_response(encode_error("x", 1, "no", remedy="do", detail="trace"))
    assert failed.error == m.ErrorObject(1, "no", m.ErrorData("do", "trace"))
    assert bytes(failed.result) == b""
    told = decode_response(encode_event(Event(1, 2.0, "info", "k", "t")))
    assert (told.method, told.id) == ("event", None)


@pytest.mark.parametrize("dropped", [0, 1, 12345])
def test_a_snapshot_is_encoded_once_for_every_count_of_what_was_missed(dropped: int) -> None:
    snapshot = FakeBackend().snapshot()
    frame = encode_snapshot(snapshot).for_subscriber(dropped)
    message = json.loads(frame)
    assert message["method"] == "snapshot"
    assert message["params"]["dropped"] == dropped
    assert frame.count(b"\n") == 1
    assert Snapshot.__struct_fields__[-1] == "dropped"  # the encoder relies on it


@pytest.mark.parametrize(
    "fault",
    [
        ActionFailed("no", "do", detail="trace"),
        TargetGone("gone"),
        Busy("busy", "wait"),
        Refused("refused", "ask"),
        UsageError("wrong"),
    ],
)
def test_a_fault_arrives_as_it_was_raised(fault: WsgitopError) -> None:
    again = as_fault(as_error(fault))
    assert type(again) is type(fault)
    assert (again.cause, again.remedy) == (fault.cause, fault.remedy)
    assert getattr(again, "detail", "") == getattr(fault, "detail", "")


def test_other_faults_of_the_master_are_failed_actions() -> None:
    again = as_fault(as_error(AppImportError("no such app", traceback="trace")))
    assert isinstance(again, ActionFailed)
    assert again.detail == "trace"


@pytest.mark.parametrize("code", [m.INTERNAL_ERROR, m.PARSE_ERROR, 12345])
def test_codes_without_a_fault_of_their_own(code: int) -> None:
    assert isinstance(as_fault(m.ErrorObject(code, "what")), ProtocolError)
