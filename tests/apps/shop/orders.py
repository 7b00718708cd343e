"""What a slow database looks like from a request."""

import socket

PATIENCE_S = 120.0


def sold_in(month: str) -> list[str]:
    """All orders of a month, once somebody answers."""
    return _query(f"SELECT * FROM orders WHERE month = '{month}'")


def _query(statement: str) -> list[str]:
    database, far_end = socket.socketpair()  # nobody ever reads the far end
    with database, far_end:
        database.settimeout(PATIENCE_S)
        database.sendall(statement.encode())
        try:
            return database.recv(65536).decode().splitlines()
        except TimeoutError:
            return []
