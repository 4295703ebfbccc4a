#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Set the project up in .venv, from nothing or from whatever state it is in.

Standard library only, and no syntax newer than Python 3.7: an interpreter that is too old must be
able to say so. `make setup` calls this, and so do `make demo`, `make test`, `make bench` and `make
lint`; when everything is up to date it returns at once.
"""

import sys
from pathlib import Path

from bootstrap.main import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1]))
