"""What holds for every test."""

import os

from hypothesis import settings

# A shared machine stalls now and then: how long an example takes says nothing here. Where a change
# is judged, it is judged by the same examples each time.
settings.register_profile("fmnist", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("fmnist")
