"""``simscale data convert``: demonstrations of one layout written in another."""
