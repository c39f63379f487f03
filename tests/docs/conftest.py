"""What the tests of the documentation share: its pages and scripts are on the path."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
HERE = Path(__file__).parent

sys.path[:0] = [str(HERE), str(DOCS), str(DOCS / "scripts")]  # under --import-mode=importlib
