"""The commands `simscale plugins check` and `simscale plugins new`."""
