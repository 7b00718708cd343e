"""``python -m tests.chaos``: see ``--help``. Ends with status 1 if anything happened that must not."""

from __future__ import annotations

import argparse
import json
import sys

from tests.chaos.run import Plan, chaos


def main() -> int:
    """One run after the other, each with the next seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the order of the faults; the same, the same order"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of faults, for each run")
    parser.add_argument("--runs", type=int, default=1, help="each with a server of its own and the next seed")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--preload", action="store_true")
    parser.add_argument("--killed", action="store_true", help="the master ends by SIGKILL in place of TERM")
    parser.add_argument("--log", default="", metavar="FILE", help="keep the server's log of the last run")
    parser.add_argument("--json", action="store_true", help="one object for each run")
    options = parser.parse_args()
    failed = False
    for seed in range(options.seed, options.seed + options.runs):
        report = chaos(
            Plan(
                seed,
                options.seconds,
                options.workers,
                options.threads,
                options.preload,
                options.killed,
                options.log,
            )
        )
        print(json.dumps(report.as_data()) if options.json else report, flush=True)
        failed = failed or bool(report.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
