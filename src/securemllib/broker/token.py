"""The attestation result as an EAT attestation result (EAR): a JWT that the broker signs with its Ed25519 key.

It carries no key and opens nothing by itself: the grant that it fetches is wrapped for the enclave whose keys it names. A JWT's signing
input cannot be a record's (DSSE) one, so the two uses of the broker's signing key cannot be confused.
"""

from base64 import urlsafe_b64encode
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from securemllib.attestation.claims import Claims
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import KEY_BYTES
from securemllib.errors import FreshnessError, SignatureError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.policy import UP_TO_DATE

__all__ = ["TokenSubject", "check_token", "issue_token"]

_PROFILE = "tag:github.com,2023:veraison/ear"
# RFC 9864 names the EdDSA signature with Ed25519 by this algorithm; "EdDSA" itself is deprecated there.
_ALGORITHM = "Ed25519"
_INSECURE = "insecure"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSubject:
    """What a token is bound to.

    Attributes:
        job_id: The job.
        session: The digest of the session cookie.
        expires: Seconds since 1970.
    """

    job_id: str
    session: str
    expires: int


def issue_token(identity: PrivateIdentity, subject: TokenSubject, enclave: PublicIdentity, claims: Claims, *, now: int) -> str:
    """Return the signed result: ``affirming``, or ``warning`` where no TEE, or a platform that needs an update, stands behind it."""
    is_current = claims.platform is None or claims.platform.tcb_statuses == (UP_TO_DATE,)
    submodule = {
        "ear.status": "affirming" if claims.tee != _INSECURE and is_current else "warning",
        "ear.attester-id": enclave.fingerprint,
        "securemllib.tee": claims.tee,
        "securemllib.measurement": claims.measurement.hex(),
        "securemllib.security-version": claims.security_version,
        "securemllib.protections": list(claims.protections),
        **({} if claims.platform is None else {"securemllib.tcb-status": list(claims.platform.tcb_statuses)}),
        **({} if claims.platform is None else {"securemllib.advisories": list(claims.platform.advisories)}),
        "cnf": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": _base64url(enclave.verification_key)}},
    }
    payload = {
        "eat_profile": _PROFILE,
        "iat": now,
        "exp": subject.expires,
        "sub": subject.job_id,
        "jti": subject.session,
        "ear.verifier-id": {"developer": "SecureMLlib", "build": identity.public.fingerprint},
        "submods": {"enclave": submodule},
    }
    return jwt.encode({"alg": _ALGORITHM, "typ": "JWT"}, payload, _private_key(identity), algorithms=[_ALGORITHM])


def check_token(identity: PrivateIdentity, token: str, *, subject: TokenSubject, now: int) -> None:
    """Refuse a token that is not this session's.

    1. This broker signed it.
    2. It is of this job and this session.
    3. It has not expired.

    Raises:
        SignatureError: 1 or 2 does not hold.
        FreshnessError: 3 does not hold.
    """
    try:
        claims = jwt.decode(token, _public_key(identity.public), algorithms=[_ALGORITHM]).claims
    except (JoseError, ValueError):
        raise SignatureError("The token is not one of this broker.") from None
    if (claims.get("sub"), claims.get("jti")) != (subject.job_id, subject.session):
        raise SignatureError("The token is of another job or session.")
    expires = claims.get("exp")
    if not isinstance(expires, int) or now >= expires:
        raise FreshnessError("The token has expired.", next_step="Attest again.")


def _private_key(identity: PrivateIdentity) -> OKPKey:
    public = _jwk(identity.public)
    return OKPKey.import_key({**public, "d": _base64url(identity.expose()[:KEY_BYTES])})


def _public_key(public: PublicIdentity) -> OKPKey:
    return OKPKey.import_key(_jwk(public))


def _jwk(public: PublicIdentity) -> dict[str, str | list[str]]:
    return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(public.verification_key)}


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
