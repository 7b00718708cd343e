"""A project for the pictures: the demo's site, and what a wsgitop has to be shown with.

Its code can be looked into and broken, it takes a moment to load, one view hangs and one crashes.
"""
