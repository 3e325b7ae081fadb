"""What all tests share: property tests that do not depend on how busy the machine is."""

from hypothesis import settings

# A deadline of milliseconds fails on a shared machine, never on a wrong answer.
settings.register_profile("securemllib", deadline=None, print_blob=True)
settings.load_profile("securemllib")
