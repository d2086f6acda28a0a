"""``python -m lockwatch``: the same as the console script ``lockwatch``."""

import sys

from lockwatch.cli import main

if __name__ == "__main__":
    status = main()
    if status:  # sys.exit(0) would show up as a traceback under `python -i`
        sys.exit(status)
