"""The types of PEP 3333, for use under strict type checking."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ResponseBody", "StartResponse", "WSGIApplication", "WSGIEnvironment"]

ResponseBody = Iterable[bytes]
