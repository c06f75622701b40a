"""Training fusion networks: losses, data, schedule, and the trainer behind ``fusion-det train-fusion``.

Nothing is imported here; the modules import torch, :mod:`~fusion_det.fusion.training.trainer` also Lightning.
"""
