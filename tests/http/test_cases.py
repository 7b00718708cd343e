"""Every case of the table and of other servers' holes: in one piece, byte by byte, and at random splits."""

from __future__ import annotations

import pytest

from tests.http.corpus import ALL, CVES, TABLE, Case
from tests.http.drive import LIMITS, Driver, Served, byte_by_byte, check, parse, random_pieces
from wsgitop.http.head import HeadParser

OTHER = b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    heads = HeadParser(LIMITS)
    whole = Driver(heads)
    whole.feed(case.data)
    check(whole.results, case.outcomes)
    assert parse(byte_by_byte(case.data), heads) == whole.results, "byte by byte"
    for seed in range(20):
        pieces = random_pieces(case.data, seed)
        assert parse(pieces, heads) == whole.results, pieces
    # What a message lets stand open ends with the connection; the next client finds nothing of it.
    assert [result.line for result in parse([OTHER], heads)] == ["GET /other"]
    if not case.outcomes:
        assert whole.parser.in_message and not whole.parser.finished


def test_cases_have_names_of_their_own() -> None:
    names = [case.name for case in ALL]
    assert len(set(names)) == len(names)
    assert len(TABLE) > 250 and len({case.name.partition(":")[0] for case in CVES}) == 16


def test_close_ends_the_connection() -> None:
    for case in ALL:
        driver = Driver()
        driver.feed(case.data)
        ends = any(not isinstance(result, Served) or not result.keep_alive for result in driver.results)
        assert driver.parser.finished is ends, case.name
