"""Does every key-encryption key keep the same promises, whatever service it lives in?"""

import logging
import pickle
from base64 import b64encode
from dataclasses import replace

import pytest

from securemllib.crypto.keys import DataKey
from securemllib.errors import SecureMLlibError, UnavailableError, UnsealError, UsageError
from securemllib.kms.key import Binding, WrappedSecret
from securemllib.kms.names import create_key, open_key
from tests.kms.services import Service

PLACE = Binding(tenant="hospital", dataset_id="0" * 32, version=3)


def test_what_was_wrapped_comes_back(service: Service) -> None:
    """A secret comes back from the key that wrapped it, opened anew, and stands in no byte of what was wrapped."""
    name = service.new_name()
    secret = DataKey.generate()
    wrapped = create_key(name).wrap(secret, PLACE)
    again = open_key(name)
    assert again.unwrap(WrappedSecret.from_bytes(wrapped.to_bytes()), PLACE).expose() == secret.expose()
    assert secret.expose() not in wrapped.to_bytes()
    assert b64encode(secret.expose()) not in wrapped.to_bytes()
    assert again.wrap(secret, PLACE).ciphertext != wrapped.ciphertext
    described = again.describe()
    assert (described.version, described.name) == (1, name)
    assert described.protection


@pytest.mark.parametrize(
    "elsewhere",
    [replace(PLACE, tenant="clinic"), replace(PLACE, dataset_id="1" * 32), replace(PLACE, version=4)],
    ids=["tenant", "dataset", "version"],
)
def test_a_wrapped_secret_stays_in_its_place(service: Service, elsewhere: Binding) -> None:
    """What whoever controls the database moves to another tenant, dataset or version does not open there, and is not rewrapped."""
    key = create_key(service.new_name())
    wrapped = key.wrap(DataKey.generate(), PLACE)
    key.unwrap(wrapped, PLACE)
    for use in (key.unwrap, key.rewrap):
        with pytest.raises(UnsealError, match=f"{elsewhere.dataset_id} version {elsewhere.version} does not open") as caught:
            use(wrapped, elsewhere)
        assert caught.value.error_code == "integrity.unseal.kek"


def test_changed_bytes_do_not_open(service: Service) -> None:
    """A wrapped secret with a flipped bit, a piece missing, nothing left or another service's label is refused."""
    key = create_key(service.new_name())
    wrapped = key.wrap(DataKey.generate(), PLACE)
    raw = wrapped.ciphertext
    changed = [raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :] for place in (40, len(raw) // 2, len(raw) - 3)]
    forged = [replace(wrapped, ciphertext=ciphertext) for ciphertext in (*changed, raw[:-4], b"", b"\xff" * 80)]
    for bad in (*forged, replace(wrapped, service="other")):
        with pytest.raises(UnsealError, match="does not open"):
            key.unwrap(bad, PLACE)
    key.unwrap(wrapped, PLACE)


def test_another_key_does_not_open(service: Service) -> None:
    """A secret does not open under another key of the same service."""
    wrapped = create_key(service.new_name()).wrap(DataKey.generate(), PLACE)
    other = create_key(service.new_name())
    with pytest.raises(SecureMLlibError) as caught:
        other.unwrap(wrapped, PLACE)
    assert caught.value.error_code in WRONG_KEY[service.kind]


# moto answers AccessDenied where AWS answers IncorrectKeyException.
WRONG_KEY = {
    "file": {"integrity.unseal.kek"},
    "vault": {"integrity.unseal.kek"},
    "awskms": {"integrity.unseal.kek", "refused.kek"},
    "pkcs11": {"integrity.unseal.kek"},
}


def test_rotated_keys_wrap_anew_and_still_open_the_old(service: Service) -> None:
    """After a rotation new secrets are wrapped under version 2, old ones open, and rewrapping replaces their bytes and not their secret."""
    name = service.new_name()
    key = create_key(name)
    secret = DataKey.generate()
    old = key.wrap(secret, PLACE)
    assert (old.key_version, key.rotate()) == (1, 2)
    key = open_key(name)
    assert key.describe().version == 2
    assert key.wrap(secret, PLACE).key_version == 2
    assert key.unwrap(old, PLACE).expose() == secret.expose()
    new = key.rewrap(old, PLACE)
    assert new.key_version == 2
    assert new.ciphertext != old.ciphertext
    assert key.unwrap(new, PLACE).expose() == secret.expose()


def test_nothing_opens_after_shredding(service: Service) -> None:
    """After shredding neither an old nor a rotated ciphertext opens, nothing is wrapped, and the error says that the key is gone."""
    name = service.new_name()
    key = create_key(name)
    old = key.wrap(DataKey.generate(), PLACE)
    key.rotate()
    new = key.wrap(DataKey.generate(), PLACE)
    key.shred()
    with pytest.raises(UnavailableError, match="shredded") as caught:
        open_key(name)
    assert caught.value.error_code == "unavailable.kek.shredded"
    if service.kind == "awskms":
        return  # moto goes on decrypting under a key that waits for its deletion; test_services.py has AWS's own refusal.
    for refused in (
        lambda: key.unwrap(old, PLACE),
        lambda: key.unwrap(new, PLACE),
        lambda: key.wrap(DataKey.generate(), PLACE),
        key.rotate,
    ):
        with pytest.raises(UnavailableError, match="shredded"):
            refused()


def test_a_key_is_made_once_and_never_by_opening(service: Service) -> None:
    """Making a key of an existing name is refused and leaves it; opening a missing one makes none."""
    name = service.new_name()
    with pytest.raises(SecureMLlibError):
        open_key(name)
    wrapped = create_key(name).wrap(DataKey.generate(), PLACE)
    with pytest.raises(UsageError, match="exists"):
        create_key(name)
    open_key(name).unwrap(wrapped, PLACE)


def test_keys_show_no_secret(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """At the most talkative level of logging, no log line, repr or pickle holds a dataset secret or a credential."""
    caplog.set_level(logging.DEBUG)
    key = create_key(service.new_name())
    secret = DataKey.generate()
    key.unwrap(key.rewrap(key.wrap(secret, PLACE), PLACE), PLACE)
    shown = caplog.text + repr(key) + repr(key.describe())
    hidden = [b64encode(secret.expose()).decode(), secret.expose().hex(), repr(secret.expose())[2:-1]]
    if service.kind == "vault":
        hidden.append(service.admin.token)
    assert [canary for canary in hidden if canary in shown] == []
    with pytest.raises(TypeError):
        pickle.dumps(key)
