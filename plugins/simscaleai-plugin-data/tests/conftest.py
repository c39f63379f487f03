"""What the tests share: a layout of their own, which `--plugin` can be given too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # npz_layout, under --import-mode=importlib
