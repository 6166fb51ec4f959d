"""Settings that hold for every test."""

from hypothesis import settings

settings.register_profile("stamp", deadline=None, max_examples=50)
settings.load_profile("stamp")
