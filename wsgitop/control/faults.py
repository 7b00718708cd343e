"""Faults of actions: what a backend raises, the error object on the wire, what a client raises again."""

from __future__ import annotations

from wsgitop.control.messages import (
    ACTION_FAILED,
    BUSY,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    REFUSED,
    TARGET_GONE,
    ErrorData,
    ErrorObject,
)
from wsgitop.errors import ActionFailed, ProtocolError, Refused, UsageError, WsgitopError


class TargetGone(ActionFailed):
    """The process that was meant is not there any more: its pid and its start time must both match."""


class Busy(ActionFailed):
    """Something that excludes this action is under way."""


_BY_CODE: dict[int, type[ActionFailed]] = {ACTION_FAILED: ActionFailed, TARGET_GONE: TargetGone, BUSY: Busy}


def as_error(fault: WsgitopError) -> ErrorObject:
    """The error object for a fault that a backend raised."""
    code = ACTION_FAILED
    if isinstance(fault, TargetGone | Busy):
        code = TARGET_GONE if isinstance(fault, TargetGone) else BUSY
    elif isinstance(fault, Refused | UsageError):
        code = REFUSED if isinstance(fault, Refused) else INVALID_PARAMS
    detail = getattr(fault, "detail", "") or getattr(fault, "traceback", "")
    data = ErrorData(fault.remedy, detail) if fault.remedy or detail else None
    return ErrorObject(code, fault.cause, data)


def as_fault(error: ErrorObject) -> WsgitopError:
    """The fault that a client raises for an error object."""
    data = error.data or ErrorData()
    if error.code in _BY_CODE:
        return _BY_CODE[error.code](error.message, data.remedy, detail=data.detail)
    match error.code:
        case code if code == REFUSED:
            return Refused(error.message, data.remedy)
        case code if code == INVALID_PARAMS:
            return UsageError(error.message, data.remedy)
        case code if code == METHOD_NOT_FOUND:
            return ActionFailed(
                error.message, data.remedy or "The master is of another version than this command."
            )
        case _:
            return ProtocolError(f"the master could not handle the call: {error.message}", data.remedy)
