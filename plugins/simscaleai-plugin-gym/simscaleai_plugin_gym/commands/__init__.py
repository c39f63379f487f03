"""The commands `simscale record`, `eval` and `envs`."""
