"""LeRobot data sets: read in place, and written.

- `simscaleai_plugin_lerobot.dataset.LeRobotDataset` reads a folder as a torch dataset;
- `simscaleai_plugin_lerobot.source.LeRobotSource` gives its episodes;
- `simscaleai_plugin_lerobot.writer.write` writes one.
"""
