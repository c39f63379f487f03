"""SimScaleAI: train robot-learning policies and prove in simulation that they work.

`pip install simscaleai` brings the core and the first-party plugins; this package gives them their
short import paths.
"""
