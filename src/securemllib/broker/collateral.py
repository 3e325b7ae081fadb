"""The broker's store of Intel's collateral: fetched from a PCCS, kept on disk, used offline for as long as it is valid.

Nothing here is trusted: collateral carries Intel's signatures, and each verification checks them. A PCCS that lies, or a changed file,
makes evidence be refused.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import dcap_qvl
import structlog

from securemllib.attestation import sgx, tdx
from securemllib.attestation.collateral import Collateral, read_collateral
from securemllib.attestation.dcap import Model, model_of
from securemllib.errors import AttestationError, FormatError, UnavailableError
from securemllib.wire.attestation import Evidence

__all__ = ["REFRESH_SECONDS", "RETRY_SECONDS", "CollateralStore", "fetch_collateral"]

_log = structlog.get_logger("securemllib.broker")

# Intel publishes new TCB levels a few times a year, and asks for them to be looked for at least monthly.
REFRESH_SECONDS = 86_400
# What a PCCS does not have, or a PCCS that does not answer, is not asked again before this.
RETRY_SECONDS = 60
_FETCH_SECONDS = 20.0
# Hosts choose which kinds of platforms they name; an operator has a handful.
_MODEL_LIMIT = 256
# An invented kind of platform keeps a request waiting until the PCCS has said no; more such requests are told to come again.
_WAITING_LIMIT = 4


def fetch_collateral(pccs: str, quote: bytes) -> str:
    """Return the collateral for a quote's kind of platform from a PCCS, in JSON.

    Raises:
        UnavailableError: The PCCS does not answer in time, or has none.
    """

    async def ask() -> str:
        found = await asyncio.wait_for(dcap_qvl.get_collateral(pccs, quote), _FETCH_SECONDS)
        return str(found.to_json())

    try:
        return asyncio.run(ask())
    except (ValueError, RuntimeError, TimeoutError) as error:
        raise UnavailableError(f"The PCCS {pccs} gave no collateral.", code="unavailable.collateral") from error


class CollateralStore:
    """Collateral by kind of platform.

    Args:
        folder: Where it is kept; None keeps it in memory.
        pccs: The address of a PCCS, or of Intel's own service; None fetches nothing.
        given: Collateral from elsewhere.
        fetch: Gets collateral in JSON for a PCCS address and a quote.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        pccs: str | None = None,
        given: Iterable[Collateral] = (),
        fetch: Callable[[str, bytes], str] = fetch_collateral,
    ) -> None:
        self._folder, self._pccs, self._fetch = folder, pccs, fetch
        self._known: dict[Model, Collateral] = {}
        self._next_fetch: dict[Model, int] = {}
        self._lock, self._fetching = threading.Lock(), threading.Lock()
        self._waiting = threading.BoundedSemaphore(_WAITING_LIMIT)
        for path in sorted(folder.glob("*.json")) if folder is not None else ():
            self._load(path)
        for collateral in given:
            self.keep(collateral)

    def find(self, model: Model) -> str | None:
        """Return the collateral for a kind of platform, whether or not it has expired; None where there is none."""
        with self._lock:
            found = self._known.get(model)
        return None if found is None else found.text

    def keep(self, collateral: Collateral) -> None:
        """Keep collateral unless a later one for its kind of platform is known."""
        with self._lock:
            held = self._known.get(collateral.model)
            if held is not None and held.issued > collateral.issued:
                return
            self._known[collateral.model] = collateral
        if self._folder is not None:
            self._write(self._folder, collateral)

    def is_due(self, evidence: Evidence, now: int) -> bool:
        """Return whether collateral for evidence should be fetched: it is missing, expired or old, and was not asked for just now."""
        model = self._model(evidence)
        if model is None:
            return False
        with self._lock:
            held = self._known.get(model)
            is_fresh = held is not None and now <= held.expires and now < held.issued + REFRESH_SECONDS
            return not is_fresh and now >= self._next_fetch.get(model, 0)

    def refresh(self, evidence: Evidence, now: int) -> None:
        """Fetch collateral for evidence; where that fails, what is held counts for as long as it is valid.

        Nobody waits while something valid is held. One fetch goes on at a time, and who waited for another's finds what it brought.

        Raises:
            UnavailableError: Nothing valid is held, and as many requests as may wait for a fetch do.
        """
        model = self._model(evidence)
        if model is None:
            return
        with self._lock:
            held = self._known.get(model)
        must_wait = held is None or now > held.expires
        if not self._waiting.acquire(blocking=False):
            if must_wait:
                raise UnavailableError("Collateral of other platforms is being fetched.", code="unavailable.collateral.busy")
            return
        if must_wait:
            self._refresh(model, evidence, now)
        else:
            threading.Thread(target=self._refresh, args=(model, evidence, now), daemon=True).start()

    def _refresh(self, model: Model, evidence: Evidence, now: int) -> None:
        try:
            with self._fetching:
                if self._pccs is not None and self.is_due(evidence, now):
                    self._replace(model, evidence.report, now, self._pccs)
        finally:
            self._waiting.release()

    def _replace(self, model: Model, quote: bytes, now: int, pccs: str) -> None:
        wait = RETRY_SECONDS
        try:
            collateral = read_collateral(self._fetch(pccs, quote))
            if collateral.model == model:
                self.keep(collateral)
                # A PCCS may hold collateral that is older than a day: it is asked again after an hour.
                wait = REFRESH_SECONDS // 24
        except (UnavailableError, FormatError) as error:
            _log.warning("collateral", code=error.error_code, tee=model.tee, fmspc=model.fmspc, ca=model.ca)
        with self._lock:
            while len(self._next_fetch) >= _MODEL_LIMIT:
                self._next_fetch.pop(next(iter(self._next_fetch)))
            self._next_fetch[model] = now + wait

    def _model(self, evidence: Evidence) -> Model | None:
        if self._pccs is None or evidence.tee not in {sgx.TEE, tdx.TEE}:
            return None
        try:
            return model_of(evidence.report)
        except AttestationError:
            return None

    def _load(self, path: Path) -> None:
        try:
            collateral = read_collateral(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, FormatError):
            _log.warning("collateral", code="integrity.collateral", file=path.name)
            return
        self._known[collateral.model] = collateral

    @staticmethod
    def _write(folder: Path, collateral: Collateral) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        model = collateral.model
        path = folder / f"{model.tee}-{model.fmspc}-{model.ca}.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(collateral.text, encoding="utf-8")
        temporary.replace(path)
