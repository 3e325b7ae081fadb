"""A fit in a thread of its own, and where it stands."""

import time

from pyspark import InheritableThread

from tests.e2e.cluster import wait_until

_FIT_SECONDS = 120.0
# A relay that has a message hands it on within a few milliseconds.
_QUIET_SECONDS = 0.5


class RunningFit:
    """A fit that goes on while a test disturbs it.

    Args:
        estimator: What to fit.
        frame: The rows.
        storage: The checkpoints' folder, of this fit alone.
    """

    def __init__(self, estimator, frame, storage):
        self._checkpoints = storage / "checkpoints"
        self._session = frame.session
        self._model = self._error = None
        self._thread = InheritableThread(target=self._run, args=(estimator, frame), daemon=True)
        self._thread.start()

    def _run(self, estimator, frame):
        try:
            self._model = estimator.fit(frame)
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is asked for
            self._error = error

    @property
    def is_over(self):
        """Whether it ended."""
        return not self._thread.is_alive()

    def reach(self, number):
        """Wait until the broker has recorded the head of a round, and return its number."""
        wait_until(lambda: self.is_over or list(self._checkpoints.glob("*")))
        found = wait_until(lambda: self.is_over or self._passed(number))
        assert not self.is_over, f"the fit ended before round {number} could be disturbed: {self._error}"
        return found

    def settle(self):
        """Wait until what its suspended enclaves said last is stored and recorded: the relays go on with it."""
        (folder,) = self._checkpoints.iterdir()

        def is_recorded():
            stored = sorted(folder.glob("checkpoint-*.sml"))
            return stored and int(stored[-1].stem.split("-")[1]) == self._session.broker.head(folder.name)

        for _ in range(2):
            time.sleep(_QUIET_SECONDS)
            wait_until(is_recorded)

    def _passed(self, number):
        (folder,) = self._checkpoints.iterdir()
        head = self._session.broker.head(folder.name)
        return head if head is not None and head >= number else None

    def result(self):
        """Return the model, or raise what ended the fit."""
        self._thread.join(_FIT_SECONDS)
        assert not self._thread.is_alive(), "the fit hangs"
        if self._error is not None:
            raise self._error
        return self._model
