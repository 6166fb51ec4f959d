"""Settings that hold for every test."""

import torch
from hypothesis import settings

settings.register_profile("stamp", deadline=None, max_examples=50)
settings.load_profile("stamp")

torch.set_num_threads(1)  # tiny tensors: a second thread only waits
