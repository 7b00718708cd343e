"""What the interface costs: ``python -m tests.benchmarks tui``. Reports; never fails a test run.

==================  ======================================================================================
program.py          command line, the order of the measurements, the report
goals.py            what must be reached: a table
measures.py         the measurements
terminals.py        a program in a pseudo-terminal: what it writes, and what it costs
control_server.py   a control server without a server behind it, in a process of its own
peers.py            htop and uwsgitop in the same terminal, where they are installed
empty_app.py        Textual with nothing in it, to compare the start with
==================  ======================================================================================
"""
