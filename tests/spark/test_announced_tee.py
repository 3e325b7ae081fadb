"""Which TEE does a relay announce to the broker before its enclave attests?"""

import pytest

from securemllib.errors import UsageError
from securemllib.spark.settings import PREFIX, Settings


def read(**given: str) -> Settings:
    """Return the settings of these keys."""
    keys = {f"{PREFIX}{name.replace('_', '.')}": value for name, value in given.items()}
    return Settings.read(keys.get)


@pytest.mark.parametrize(
    ("given", "announced"),
    [
        ({}, "insecure"),
        ({"enclave_address": "127.0.0.1:1"}, "insecure"),
        ({"enclave_address": "127.0.0.1:1", "enclave_tee": "sgx"}, "sgx"),
        ({"enclave_image": "/image"}, "sgx"),
        ({"enclave_image": "/image", "enclave_tee": "insecure"}, "insecure"),
    ],
)
def test_the_announced_tee(given: dict[str, str], announced: str) -> None:
    """An image attests as SGX, a process of ours as insecure, and what the operator says of theirs counts."""
    assert read(**given).enclave.announced == announced


def test_an_unknown_tee_is_refused() -> None:
    """A TEE that no enclave attests with is refused when the session starts."""
    with pytest.raises(UsageError, match=r"enclave\.tee"):
        read(enclave_tee="sgxx")
