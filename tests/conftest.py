"""What holds for every test."""

from hypothesis import settings

# A shared machine stalls now and then: how long an example takes says nothing here.
settings.register_profile("fmnist", deadline=None)
settings.load_profile("fmnist")
