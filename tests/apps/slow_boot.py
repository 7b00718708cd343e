"""An application that takes a while to import."""

import os
import time

from hello import application

__all__ = ["application"]

time.sleep(float(os.environ.get("SLOW_BOOT_S", "1")))
