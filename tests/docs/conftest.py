"""What the tests of the documentation share: the pages, and the repository's root on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # pages, under --import-mode=importlib
