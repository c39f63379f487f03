"""The command ``simscale data``: demonstrations shown, checked, viewed and converted."""
