"""Does an owner notice when the storage changes, swaps, drops or rolls back what it holds?"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FreshnessError, IntegrityError, SecureMLlibError, SignatureError, UsageError
from securemllib.owner import reading
from securemllib.owner.reading import BODY_PURPOSE, MANIFEST_FILE
from securemllib.wire.dataset import ClearPart, Manifest, ManifestBody, Part, body_context
from securemllib.wire.signed import Signed


@pytest.fixture
def stored(owner, tmp_path: Path, table: pa.Table) -> Path:
    """A dataset of four parts of 25 rows."""
    owner.encrypt(table, tmp_path / "dataset", rows_per_part=25)
    return tmp_path / "dataset"


def test_another_owners_dataset_is_told_as_such(owner, stored: Path) -> None:
    """Whoever takes another identity than the dataset's owner is told both, and what to do; the owner opens it."""
    assert reading.open_manifest(stored, owner.identity.public).owner == owner.identity.public.fingerprint
    with pytest.raises(SignatureError, match=f"signed by {owner.identity.public.fingerprint}, not by") as raised:
        reading.open_manifest(stored, PrivateIdentity.generate("other").public)
    assert "owner's identity" in raised.value.next_step


@pytest.fixture
def check(owner, stored: Path) -> Callable[[], Manifest]:
    """Verifies the dataset with the owner's keys."""
    return lambda: reading.verify(stored, owner=owner.identity.public, keystore=owner.keystore)


def flip(path: Path, position: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_an_untouched_dataset_is_genuine(check) -> None:
    """What nobody touched verifies: the refusals below are not of everything."""
    assert check().rows == 100


@pytest.mark.parametrize("position", [0, 5, 100, -100, -6, -1])
def test_a_flipped_bit_of_a_part_is_noticed(stored: Path, check, position: int) -> None:
    """One changed bit anywhere in a part is refused, and the part restored verifies again."""
    flip(stored / "part-00002.parquet", position)
    with pytest.raises(IntegrityError, match="Part 2"):
        check()
    flip(stored / "part-00002.parquet", position)
    check()


def test_swapped_parts_are_noticed(stored: Path, check) -> None:
    """Two parts in each other's place are refused, though each was written by the owner."""
    first, second, aside = stored / "part-00000.parquet", stored / "part-00001.parquet", stored / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    with pytest.raises(IntegrityError, match="Part 0"):
        check()


def test_a_missing_part_is_noticed(stored: Path, check) -> None:
    """A part that is gone is refused by its number."""
    (stored / "part-00003.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"Part 3 .* is missing") as caught:
        check()
    assert caught.value.error_code == "integrity.missing_part"


def test_a_shortened_part_is_noticed_without_keys(owner, stored: Path) -> None:
    """Whoever has only the owner's public identity still notices a part of another length."""
    reading.verify(stored, owner=owner.identity.public)
    path = stored / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="Part 1 has"):
        reading.verify(stored, owner=owner.identity.public)


@pytest.mark.parametrize("position", [1, 40, 200, -300, -100, -1])
def test_a_flipped_bit_of_the_manifest_is_noticed(stored: Path, check, position: int) -> None:
    """One changed bit anywhere in the manifest is refused."""
    flip(stored / MANIFEST_FILE, position)
    with pytest.raises(IntegrityError):
        check()


def test_another_owner_s_signature_is_refused(owner, other_owner, stored: Path) -> None:
    """A manifest that somebody else signed again is refused, and so is the true one where somebody else is expected."""
    path = stored / MANIFEST_FILE
    genuine = path.read_bytes()
    manifest = Manifest.from_bytes(Signed.from_bytes(genuine).payload)
    path.write_bytes(other_owner.identity.sign(manifest).to_bytes())
    with pytest.raises(SignatureError):
        reading.verify(stored, owner=owner.identity.public)
    with pytest.raises(SignatureError, match="names the owner"):
        reading.verify(stored, owner=other_owner.identity.public)
    path.write_bytes(genuine)
    with pytest.raises(SignatureError):
        reading.verify(stored, owner=other_owner.identity.public)
    reading.verify(stored, owner=owner.identity.public)


def test_another_record_with_a_genuine_signature_is_no_manifest(owner, stored: Path) -> None:
    """A record of another type that the owner signed does not pass for a manifest."""
    (stored / MANIFEST_FILE).write_bytes(owner.identity.sign(owner.identity.public).to_bytes())
    with pytest.raises(IntegrityError, match="not a manifest"):
        reading.verify(stored, owner=owner.identity.public)


def test_another_keystore_does_not_open_it(owner, other_owner, stored: Path) -> None:
    """A keystore without the dataset's secret says so, and names the dataset."""
    with pytest.raises(UsageError, match="no secret of dataset"):
        reading.open_dataset(stored, owner=owner.identity.public, keystore=other_owner.keystore)


def test_a_secret_of_another_dataset_does_not_open_it(owner, stored: Path, tmp_path: Path, table: pa.Table, check) -> None:
    """A dataset secret that was put in another one's place in the keystore is refused."""
    other = owner.encrypt(table, tmp_path / "other")
    mine, theirs = (tmp_path / "home" / "keystore" / identity for identity in (check().dataset_id, other.dataset_id))
    genuine = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(IntegrityError):
        check()
    mine.write_bytes(genuine)
    check()


def test_an_older_version_is_noticed(owner, stored: Path, tmp_path: Path, table: pa.Table, check) -> None:
    """Once version 2 exists, version 1 is refused as not the latest, unless it is asked for by name."""
    version = owner.encrypt(table.slice(0, 50), tmp_path / "v2", previous=stored)
    assert version.version == 2
    with pytest.raises(FreshnessError, match="the latest, which is version 2"):
        check()
    with pytest.raises(FreshnessError):
        owner.encrypt(table, tmp_path / "fork", previous=stored)
    assert not (tmp_path / "fork").exists()
    public = owner.identity.public
    assert reading.verify(tmp_path / "v2", owner=public, keystore=owner.keystore) == version
    assert reading.decrypt(stored, tmp_path / "old.parquet", owner=public, keystore=owner.keystore, any_version=True) == 100


def test_parts_of_the_version_before_are_no_parts_of_this_one(owner, stored: Path, tmp_path: Path, table: pa.Table) -> None:
    """A part of version 1 in its place in version 2 is refused: its file is another one."""
    owner.encrypt(table, tmp_path / "v2", previous=stored, rows_per_part=25)
    shutil.copy(stored / "part-00000.parquet", tmp_path / "v2" / "part-00000.parquet")
    with pytest.raises(IntegrityError, match="Part 0"):
        reading.verify(tmp_path / "v2", owner=owner.identity.public, keystore=owner.keystore)


def rewritten(owner, stored: Path, change: Callable[[tuple[Part, ...]], tuple[Part, ...]]) -> None:
    """Put another list of parts under a genuine signature: what an owner's own broken tool could do."""
    opened = reading.open_dataset(stored, owner=owner.identity.public, keystore=owner.keystore, any_version=True)
    body = ManifestBody(parts=change(opened.body.parts), columns=opened.body.columns, brokers=opened.body.brokers)
    fields = {name: getattr(opened.manifest, name) for name in opened.manifest.__slots__}
    context = body_context(opened.manifest.dataset_id, opened.manifest.version)
    fields["parts"] = tuple(ClearPart(file=part.file, length=part.length) for part in body.parts)
    fields["body"] = seal(opened.secret.derive(BODY_PURPOSE), context, body.to_bytes())
    (stored / MANIFEST_FILE).write_bytes(owner.identity.sign(Manifest(**fields)).to_bytes())


def swapped(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Exchange the files of the first two parts, hashes and lengths and all, and leave the rest in place."""
    moved = ("file", "length", "sha256")
    first, second = ({name: getattr(part, name) for name in part.__slots__} for part in parts[:2])
    exchanged = (first | {name: second[name] for name in moved}, second | {name: first[name] for name in moved})
    return (*(Part(**fields) for fields in exchanged), *parts[2:])


def test_the_cipher_itself_refuses_another_part(owner, stored: Path) -> None:
    """Even where hashes and signature fit, a file in another part's place does not decrypt: key and AAD prefix are the part's own."""

    def read() -> int:
        opened = reading.open_dataset(stored, owner=owner.identity.public, keystore=owner.keystore, any_version=True)
        return sum(table.num_rows for table in opened.tables())

    rewritten(owner, stored, lambda parts: parts)
    assert read() == 100
    rewritten(owner, stored, swapped)
    with pytest.raises(IntegrityError, match=r"Part 0 .* does not decrypt"):
        read()


def test_a_clear_section_that_lies_is_refused(owner, stored: Path, check) -> None:
    """A clear section that contradicts the sealed body is refused, even under the owner's signature."""
    manifest = check()
    fields = {name: getattr(manifest, name) for name in manifest.__slots__}
    (stored / MANIFEST_FILE).write_bytes(owner.identity.sign(Manifest(**{**fields, "rows": 99})).to_bytes())
    with pytest.raises(IntegrityError, match="contradicts"):
        reading.open_dataset(stored, owner=owner.identity.public, keystore=owner.keystore, any_version=True)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xa1" * 50, bytes(10_000)])
def test_garbage_is_no_manifest(owner, stored: Path, content: bytes) -> None:
    """A manifest file of any other bytes is refused with an error of ours."""
    (stored / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(SecureMLlibError):
        reading.inspect(stored)
