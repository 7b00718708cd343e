"""A module whose ``application`` is no application."""

application = "not callable"
