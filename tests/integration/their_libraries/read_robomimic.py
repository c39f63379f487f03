"""Dump every item of robomimic's SequenceDataset over a file, for each set of options."""

import json
import sys
from typing import Any

import h5py
import numpy as np
import torch
from robomimic.utils.dataset import SequenceDataset

data, options, output = sys.argv[1:]
with h5py.File(data) as file:
    keys = tuple(file["data/demo_0/obs"])
    others = tuple(k for k in ("actions", "rewards", "dones") if k in file["data/demo_0"])
found: dict[str, Any] = {}
for number, chosen in enumerate(json.loads(options)):
    dataset = SequenceDataset(data, keys, others, get_pad_mask=True, **chosen)
    items = torch.utils.data.default_collate([dataset[i] for i in range(len(dataset))])
    for part in (*others, "pad_mask"):
        found[f"{number}/{part}"] = items[part].numpy()
    for group in ("obs", "next_obs")[: 1 + chosen["load_next_obs"]]:
        for key in keys:
            found[f"{number}/{group}/{key}"] = items[group][key].numpy()
    found[f"{number}/demos"] = np.array(dataset.demos)
np.savez(output, **found)
