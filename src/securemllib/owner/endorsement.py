"""Endorsing brokers: the owner verifies a broker's evidence, and enclaves rely on the owner's word (the passport model of RFC 9334)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from securemllib.attestation.dcap import Endorsements
from securemllib.attestation.verifier import appraise_named
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.errors import FreshnessError, UsageError
from securemllib.wire.attestation import Challenge, Evidence
from securemllib.wire.endorsement import BrokerEndorsement
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.policy import AppraisalPolicy
from securemllib.wire.signed import Signed

__all__ = ["endorse", "read_endorsements"]


def endorse(
    challenge: Challenge,
    evidence: Evidence,
    *,
    policies: Mapping[str, AppraisalPolicy],
    collateral: Endorsements,
    identity: PrivateIdentity,
    seconds: int,
) -> tuple[Signed, BrokerEndorsement]:
    """Return an endorsement of the broker that the challenge was for, signed.

    Args:
        challenge: The owner's own, just made.
        evidence: The broker's answer.
        policies: Which code the owner accepts as a broker, by name.
        collateral: What quotes are verified with, and the time.
        identity: The owner.
        seconds: For how long datasets may be written on the strength of it.

    Raises:
        AttestationError: The evidence is not genuine, answers another challenge, is of another identity, or satisfies no policy.
    """
    name, claims = appraise_named(evidence, challenge=challenge, policies=policies, endorsements=collateral)
    found = BrokerEndorsement(
        owner=identity.public.fingerprint,
        broker=evidence.identity,
        tee=claims.tee,
        measurement=claims.measurement,
        signer=claims.signer,
        security_version=claims.security_version,
        accepted_as=name,
        verified=collateral.now,
        expires=collateral.now + seconds,
    )
    return identity.sign(found), found


def read_endorsements(paths: Iterable[Path], *, owner: PublicIdentity, now: int) -> tuple[str, ...]:
    """Return the fingerprints of the brokers that endorsements in files are of.

    Raises:
        SignatureError: One is not signed by this owner.
        FreshnessError: One has expired.
        UsageError: There is no such file.
    """
    return tuple(_read(path, owner, now).broker.fingerprint for path in paths)


def _read(path: Path, owner: PublicIdentity, now: int) -> BrokerEndorsement:
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", next_step="`securemllib attest endorse` writes it.", code="usage.missing_file")
    found = verify(Signed.from_bytes(path.read_bytes()), BrokerEndorsement, owner)
    if not found.verified <= now < found.expires:
        raise FreshnessError(
            f"The endorsement of broker {found.broker.fingerprint} was for {found.verified} to {found.expires}, and it is {now}.",
            next_step="Look at the broker again: `securemllib attest endorse`.",
            code="integrity.freshness.endorsement",
        )
    return found
