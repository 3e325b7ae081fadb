"""A custodian's share of a broker's recovery key."""

from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.notices import RecoveryShare, recovery_share_context
from securemllib.wire.signed import Signed

__all__ = ["open_share"]


def open_share(signed: Signed, custodian: PrivateIdentity) -> tuple[PublicIdentity, str]:
    """Return the broker that a share is of, and its words, to be told to who restores that broker.

    Raises:
        SignatureError: The broker that it names did not sign it.
        UnsealError: It is another custodian's.
    """
    share = verify(signed, RecoveryShare, RecoveryShare.from_bytes(signed.payload).broker)
    info = recovery_share_context(share.broker.fingerprint, custodian.public.fingerprint)
    return share.broker, custodian.recipient.unwrap(share.wrapped, info).decode()
