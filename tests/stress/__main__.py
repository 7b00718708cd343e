"""``python -m tests.stress``: see ``--help``. Ends with status 1 if anything went wrong."""

from __future__ import annotations

import argparse
import re
import sys

from tests.stress.run import Plan, stress


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if match is None:
        raise argparse.ArgumentTypeError("WORKERSxTHREADS, for example 2x3")
    return int(match[1]), int(match[2])


def main() -> int:
    """Run one shape, or several one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000, help="requests for each shape")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", type=_shape, nargs="+", default=[(2, 3)], metavar="WxT")
    parser.add_argument("--connections", type=int, default=40, help="at the same time")
    parser.add_argument(
        "--reloads",
        type=float,
        default=0.0,
        metavar="S",
        help="HUP, TTIN or TTOU about every S seconds; 0: none",
    )
    parser.add_argument(
        "--hangs", type=float, default=0.0, metavar="SHARE", help="of requests that run into the time limit"
    )
    parser.add_argument(
        "--stop-at", type=float, default=0.0, metavar="SHARE", help="end the server when so much is answered"
    )
    parser.add_argument("--timeout", type=float, default=30.0, help="the server's, per call")
    parser.add_argument("--keep-alive", type=float, default=2.0, help="the server's")
    parser.add_argument("server", nargs="*", help="further arguments for the server, behind --")
    options = parser.parse_args()
    failed = False
    for workers, threads in options.shape:
        report = stress(
            Plan(
                workers,
                threads,
                options.requests,
                options.seed,
                options.connections,
                options.reloads,
                options.hangs,
                options.timeout,
                options.keep_alive,
                options.stop_at,
                tuple(options.server),
            )
        )
        print(report, flush=True)
        failed = failed or bool(report.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
