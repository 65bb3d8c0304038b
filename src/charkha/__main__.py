"""`python -m charkha` is `charkha`."""

import sys

from charkha.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
