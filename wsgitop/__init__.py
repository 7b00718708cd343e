"""wsgitop: a pre-fork WSGI server that can be seen into and driven."""

__version__ = "0.1.0"
