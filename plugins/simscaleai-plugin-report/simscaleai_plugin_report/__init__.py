"""The command ``simscale report``: what runs were and how well their policies do, as one page."""
