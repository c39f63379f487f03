"""The command line: ``python -m simscaleai.tools.cli`` is ``simscale``."""

from simscaleai_core.__main__ import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
