"""Manipulation tasks of a 7-DoF arm in MuJoCo, with scripted experts."""
