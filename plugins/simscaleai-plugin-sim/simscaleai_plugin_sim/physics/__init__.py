"""The arm in MuJoCo: model, control, batched physics, pictures."""
