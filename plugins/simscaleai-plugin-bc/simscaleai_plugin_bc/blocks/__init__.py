"""Building blocks of imitation policies: all that other packages may import of this one.

- `options`: options that several policies share;
- `inputs`, `encoder`, `augment`: from observations to features;
- `action_space`, `rotations`: what the network sees of states and actions, and the way back;
- `normalization`, `measuring`: statistics, and the normalisers that they are in;
- `heads`: from features to chunks of actions, each with its loss;
- `chunk_execution`, `chunking`: predicting chunks and executing them;
- `fitting`: what a policy takes from the data;
- `policy_base`: what the policies share.
"""
