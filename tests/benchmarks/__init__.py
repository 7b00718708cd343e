"""Comparison with other servers: ``python -m tests.benchmarks``. Reports; never fails a test run.

==============  ==========================================================================================
scenarios.py    what is asked of the servers: a table
servers.py      who takes part, and the command of each: a table. A peer more is a function and a row
checks.py       what must be reached: a table
clients.py      makes load, reads wrk's report
crowd.py        connections that are only held: idle ones, and ones that never finish their head
serving.py      starts a server, ends it, and counts what it costs
runner.py       starts the peers that have no usable command line of their own
report.py       rows, medians, ratios; Markdown and JSON
apps/           what is served, beside what tests/apps has
tui/            what the interface costs: ``python -m tests.benchmarks tui``
==============  ==========================================================================================
"""
