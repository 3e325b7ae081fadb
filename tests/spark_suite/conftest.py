"""The deployment and the Spark that the tests of the host share."""

from tests.host import *  # noqa: F403 - fixtures are found by their names here
