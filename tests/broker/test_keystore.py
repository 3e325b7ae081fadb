"""Does the keystore open for its passphrase and its user, and for nobody else?"""

import os
from pathlib import Path

import pytest

from securemllib.broker.keystore import create_keystore, has_passphrase, open_keystore, read_public_identity
from securemllib.errors import FormatError, RefusedError, UnavailableError, UnsealError, UsageError


def test_a_passphrase_opens_the_keystore(tmp_path: Path) -> None:
    """The right passphrase gives the same keys; a wrong one, and none, give errors that say which it is."""
    path = tmp_path / "keystore.sml"
    made = create_keystore(path, "broker", "correct horse")
    opened = open_keystore(path, "correct horse")
    assert opened.identity.public == made.identity.public == read_public_identity(path)
    assert opened.store_key.expose() == made.store_key.expose()
    assert has_passphrase(path)
    with pytest.raises(UnsealError, match="passphrase is wrong"):
        open_keystore(path, "correct hors")
    with pytest.raises(UsageError, match="protected by a passphrase"):
        open_keystore(path, None)
    with pytest.raises(UsageError, match="exists already"):
        create_keystore(path, "broker", "another")


def test_a_key_file_opens_the_keystore(tmp_path: Path) -> None:
    """Without a passphrase the key file beside the keystore opens it, and another key file does not."""
    path = tmp_path / "keystore.sml"
    made = create_keystore(path, "broker", None)
    assert open_keystore(path, None).identity.public == made.identity.public
    assert not has_passphrase(path)
    (tmp_path / "keystore.sml.key").write_bytes(os.urandom(32))
    with pytest.raises(UnsealError, match="key file does not belong"):
        open_keystore(path, None)


@pytest.mark.parametrize("name", ["keystore.sml", "keystore.sml.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_files_that_others_read_are_refused(tmp_path: Path, name: str, mode: int) -> None:
    """A keystore or key file with any permission for others is refused; with mode 600 it opens."""
    path = tmp_path / "keystore.sml"
    create_keystore(path, "broker", None)
    (tmp_path / name).chmod(mode)
    with pytest.raises(RefusedError, match="mode"):
        open_keystore(path, None)
    (tmp_path / name).chmod(0o600)
    open_keystore(path, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_of_another_user_are_refused(tmp_path: Path) -> None:
    """A keystore that belongs to another user is refused, whatever its mode."""
    path = tmp_path / "keystore.sml"
    create_keystore(path, "broker", None)
    os.chown(path, 12345, 12345)
    with pytest.raises(RefusedError, match="user 12345"):
        open_keystore(path, None)


def test_a_changed_keystore_is_refused(tmp_path: Path) -> None:
    """No byte of the keystore can be changed, and a missing keystore is an error of its own."""
    path = tmp_path / "keystore.sml"
    create_keystore(path, "broker", None)
    good = path.read_bytes()
    for position in range(0, len(good), 29):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises((UnsealError, FormatError, UsageError)):
            open_keystore(path, None)
    path.write_bytes(good)
    open_keystore(path, None)
    with pytest.raises(UnavailableError, match="broker init"):
        open_keystore(tmp_path / "nothing", None)


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    """Nobody protects a keystore with nothing by accident."""
    with pytest.raises(UsageError, match="empty"):
        create_keystore(tmp_path / "keystore.sml", "broker", "")
