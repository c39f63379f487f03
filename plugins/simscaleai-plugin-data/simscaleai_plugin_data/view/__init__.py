"""``simscale data view``: demonstrations as a page, a picture, or a recording for Rerun."""
