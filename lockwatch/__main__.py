"""``python -m lockwatch``: the same as the console script ``lockwatch``."""

import sys

from lockwatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
