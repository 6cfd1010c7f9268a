"""What the tests of data share."""

import pytest

from fmnist.data.load import load_data
from fmnist.data.splits import Data
from fmnist.errors import DataError


@pytest.fixture(scope="session")
def real() -> Data:
    try:
        return load_data()
    except DataError as error:
        pytest.skip(f"wants the real data: {error}")
