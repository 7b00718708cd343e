"""``python -m wsgitop`` is ``wsgitop``."""

import sys

from wsgitop.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
