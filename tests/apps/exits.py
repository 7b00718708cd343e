"""An application that ends its process while it is imported."""

import sys

sys.exit("exits.py: no licence found")
