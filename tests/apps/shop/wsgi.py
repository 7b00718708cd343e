"""The WSGI application."""

import os
import time
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from shop.views import monthly_report, thumbnail
from wsgitop.demo.site import application as demo

time.sleep(float(os.environ.get("SHOP_LOADS_S", "0")))  # as long as a project of some size takes


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Two views more than the demo."""
    path = environ["PATH_INFO"]
    if path.startswith("/reports/"):
        return monthly_report(path.rpartition("/")[2], start_response)
    if path.startswith("/thumbnails/"):
        return thumbnail(path.rpartition("/")[2], start_response)
    return demo(environ, start_response)
