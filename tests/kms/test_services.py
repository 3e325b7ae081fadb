"""What does a key-encryption key say when its service is down, sealed, refuses, or is not what its name says?"""

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.config import Config
from botocore.stub import Stubber

from securemllib.crypto.keys import DataKey
from securemllib.errors import ConnectionLostError, RefusedError, SecureMLlibError, UnavailableError, UnsealError, UsageError
from securemllib.kms import aws, pkcs11, vault
from securemllib.kms.key import Binding, WrappedSecret
from securemllib.kms.names import create_key, open_key
from tests.kms.conftest import use
from tests.kms.services import PAGE, Service, free_port

PLACE = Binding(tenant="hospital", dataset_id="0" * 32, version=3)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def code_of(raised: pytest.ExceptionInfo[SecureMLlibError]) -> str:
    """Return the code of what was raised."""
    return raised.value.error_code


@pytest.mark.parametrize("answers", [False, True], ids=["closed", "silent"])
def test_a_service_that_does_not_answer_is_not_waited_for(
    vault_service: Service, awskms_service: Service, monkeypatch: pytest.MonkeyPatch, silent: str, answers: bool
) -> None:
    """Where nothing listens, or what listens never answers, the wait is bounded and the error names the service."""
    assert vault._TIMEOUT_SECONDS <= 5
    assert aws._CONFIG.read_timeout * aws._CONFIG.retries["total_max_attempts"] <= 10
    monkeypatch.setattr(vault, "_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(aws, "_CONFIG", Config(connect_timeout=0.3, read_timeout=0.3, retries={"total_max_attempts": 1}))
    address = silent if answers else f"127.0.0.1:{free_port()}"
    use(monkeypatch, vault_service)
    with pytest.raises(ConnectionLostError, match="does not answer") as caught:
        open_key(f"vault+http://{address}/transit/keys/k")
    assert code_of(caught) == "unavailable.connection.kek"
    use(monkeypatch, awskms_service)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://{address}")
    with pytest.raises(ConnectionLostError, match="does not answer"):
        open_key("awskms:///alias/k")


def test_a_sealed_openbao_says_so(vault_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed server unwraps nothing and is called sealed; once unsealed, it unwraps what it wrapped before."""
    use(monkeypatch, vault_service)
    key = create_key(vault_service.new_name())
    secret = DataKey.generate()
    wrapped = key.wrap(secret, PLACE)
    vault_service.admin.sys.seal()
    try:
        with pytest.raises(UnavailableError, match="is sealed") as caught:
            key.unwrap(wrapped, PLACE)
        assert code_of(caught) == "unavailable.kek.sealed"
    finally:
        vault_service.admin.sys.submit_unseal_key(vault_service.environment["UNSEAL"])
    assert key.unwrap(wrapped, PLACE).expose() == secret.expose()


# What the page recommends for a broker, whose key is called `broker` there.
BROKER_POLICY = PAGE.partition("<<'POLICY'\n")[2].partition("POLICY\n")[0]


def test_a_brokers_token_wraps_and_unwraps_and_no_more(vault_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The recommended policy lets a token wrap and unwrap; not rotate, shred, use another key, or make a shredded one anew."""
    use(monkeypatch, vault_service)
    name, other = vault_service.new_name(), vault_service.new_name()
    owner = create_key(name)
    create_key(other)
    vault_service.admin.sys.create_or_update_policy("broker", BROKER_POLICY.replace('/broker"', f'/{name.rpartition("/")[2]}"'))
    token = vault_service.admin.auth.token.create(policies=["broker"])["auth"]["client_token"]
    (tmp_path / "token").write_text(token)
    monkeypatch.setenv("BAO_TOKEN_FILE", str(tmp_path / "token"))
    broker = open_key(name)
    broker.unwrap(broker.wrap(DataKey.generate(), PLACE), PLACE)
    for refused in (broker.rotate, broker.shred, lambda: open_key(other)):
        with pytest.raises(RefusedError, match="does not permit") as caught:
            refused()
        assert code_of(caught) == "refused.kek"
    (tmp_path / "token").write_text(vault_service.admin.token)
    owner.shred()
    for one_token in (vault_service.admin.token, token):
        (tmp_path / "token").write_text(one_token)
        with pytest.raises(UnavailableError, match="shredded"):
            broker.wrap(DataKey.generate(), PLACE)


def test_a_token_is_read_anew_and_must_be_there(vault_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A renewed token file is used at once, a wrong token is refused without being shown, and none at all asks for one."""
    use(monkeypatch, vault_service)
    key = create_key(vault_service.new_name())
    monkeypatch.setenv("BAO_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(UsageError, match="cannot be read"):
        key.describe()
    (tmp_path / "token").write_text("s.notatoken")
    with pytest.raises(RefusedError) as caught:
        key.describe()
    assert "s.notatoken" not in str(caught.value)
    (tmp_path / "token").write_text(vault_service.admin.token)
    key.describe()
    monkeypatch.delenv("BAO_TOKEN_FILE")
    with pytest.raises(UsageError, match="no token"):
        key.describe()


def test_a_key_of_another_type_is_refused(vault_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transit key that cannot bind associated data, or derives keys, is not taken."""
    use(monkeypatch, vault_service)
    for number, options in enumerate(({"key_type": "rsa-2048"}, {"key_type": "aes256-gcm96", "derived": True})):
        name = f"{vault_service.new_name()}-{number}"
        vault_service.admin.secrets.transit.create_key(name.rpartition("/")[2], **options)
        with pytest.raises(UsageError, match="aes256-gcm96"):
            open_key(name)


@pytest.fixture
def aws_key(awskms_service: Service, monkeypatch: pytest.MonkeyPatch) -> aws.AwsKey:
    """A key of moto's AWS KMS."""
    use(monkeypatch, awskms_service)
    name = awskms_service.new_name()
    create_key(name)
    return aws.AwsKey.open(name)


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        ("KMSInvalidStateException", UnavailableError, "unavailable.kek.disabled"),
        ("DisabledException", UnavailableError, "unavailable.kek.disabled"),
        ("NotFoundException", UnavailableError, "unavailable.kek.shredded"),
        ("AccessDeniedException", RefusedError, "refused.kek"),
        ("ExpiredTokenException", RefusedError, "refused.kek"),
        ("IncorrectKeyException", UnsealError, "integrity.unseal.kek"),
        ("InvalidCiphertextException", UnsealError, "integrity.unseal.kek"),
        ("ThrottlingException", UnavailableError, "unavailable.kek"),
    ],
)
def test_each_refusal_of_aws_is_told_apart(aws_key: aws.AwsKey, answer: str, expected: type[SecureMLlibError], code: str) -> None:
    """What AWS answers, by its manual, becomes the error that says what to do: moto knows neither permissions nor shredded keys."""
    wrapped = aws_key.wrap(DataKey.generate(), PLACE)
    with Stubber(aws_key._client) as stub:
        stub.add_client_error("decrypt", service_error_code=answer)
        with pytest.raises(expected) as caught:
            aws_key.unwrap(wrapped, PLACE)
    assert code_of(caught) == code
    aws_key.unwrap(wrapped, PLACE)


def test_aws_is_told_the_place_in_words(aws_key: aws.AwsKey) -> None:
    """The encryption context, which CloudTrail shows, names tenant, dataset and version, and the key is always named too."""
    with Stubber(aws_key._client) as stub:
        context = {"securemllib:tenant": "hospital", "securemllib:dataset": "0" * 32, "securemllib:version": "3"}
        asked = {"KeyId": aws_key._arn, "CiphertextBlob": b"c", "EncryptionContext": context}
        stub.add_response("decrypt", {"Plaintext": bytes(32)}, asked)
        aws_key.unwrap(WrappedSecret(service="awskms", key_version=1, ciphertext=b"c"), PLACE)


def test_a_disabled_aws_key_and_missing_credentials_are_told(aws_key: aws.AwsKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disabled key does not open and is enabled again; without credentials the error says where to put them."""
    name = aws_key.describe().name
    arn = aws_key._arn.rpartition("/")[2]
    aws_key._client.disable_key(KeyId=arn)
    with pytest.raises(UnavailableError, match="is disabled"):
        open_key(name)
    aws_key._client.enable_key(KeyId=arn)
    open_key(name)
    open_key(f"awskms:///{aws_key._arn}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(UsageError, match="credentials"):
        open_key(name)


def test_a_token_takes_its_pin_only(pkcs11_service: Service, tmp_path: Path) -> None:
    """In a program that is not logged in, a wrong PIN is refused and not shown; a missing PIN, token or module is named."""
    name = pkcs11_service.new_name()
    right = name.partition("pin-source=file:")[2]
    module = name.partition("module-path=")[2].partition("&")[0]
    (tmp_path / "pin").write_text("111111")
    pkcs11.pkcs11.lib(module).reinitialize()
    with pytest.raises(RefusedError, match="does not take the PIN") as caught:
        open_key(name.replace(right, str(tmp_path / "pin")))
    assert "111111" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        open_key(name.replace(right, str(tmp_path / "none")))
    with pytest.raises(UnavailableError, match="no token other"):
        open_key(name.replace("token=tenants", "token=other"))
    with pytest.raises(UsageError, match="no PKCS#11 module"):
        open_key(name.replace(module, "/dev/null"))
    create_key(name)
    open_key(name)


def test_keys_of_rotations_at_once_all_open(pkcs11_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two programs that rotate at once make two keys of one version: what either wrapped opens, nothing else does; shredding ends both."""
    name, secret = pkcs11_service.new_name(), DataKey.generate()
    key, other, made = pkcs11.Pkcs11Key.create(name), pkcs11.Pkcs11Key.open(name), pkcs11.Pkcs11Key._generate
    before = key.wrap(secret, PLACE)

    def beside(self: pkcs11.Pkcs11Key, session: Any, version: int) -> None:
        if self is key:
            other.rotate()
        made(self, session, version)

    with monkeypatch.context() as patch:
        patch.setattr(pkcs11.Pkcs11Key, "_generate", beside)
        assert key.rotate() == 2
    label = {pkcs11.pkcs11.Attribute.LABEL: key._location.label}
    nonce, mechanism = bytes(12), pkcs11.pkcs11.Mechanism.AES_GCM
    with key._used() as session:
        twins = [found for found in session.get_objects(label) if found.id == b"\0\0\0\2"]
        place = pkcs11.GCMParams(nonce, PLACE.associated_data, 128)
        sealed = [nonce + twin.encrypt(secret.expose(), mechanism=mechanism, mechanism_param=place) for twin in twins]
    wrapped = [before, *(WrappedSecret(service="pkcs11", key_version=2, ciphertext=text) for text in sealed), key.wrap(secret, PLACE)]
    assert len(wrapped) == 4
    again = open_key(name)
    for each in wrapped:
        assert again.unwrap(each, PLACE).expose() == again.unwrap(again.rewrap(each, PLACE), PLACE).expose() == secret.expose()
        with pytest.raises(UnsealError):
            again.unwrap(replace(each, ciphertext=each.ciphertext[:-1] + bytes([each.ciphertext[-1] ^ 1])), PLACE)
    assert again.rotate() == 3
    assert again.rewrap(wrapped[1], PLACE).key_version == 3
    again.shred()
    with key._used() as session:
        assert list(session.get_objects(label)) == []


def test_keys_do_not_leave_the_token(pkcs11_service: Service) -> None:
    """The keys that are made are sensitive and not extractable: their value cannot be read."""
    key = pkcs11.Pkcs11Key.create(pkcs11_service.new_name())
    with key._used() as session:
        ((made,),) = key._versions(session).values()
        assert made[pkcs11.pkcs11.Attribute.SENSITIVE]
        assert not made[pkcs11.pkcs11.Attribute.EXTRACTABLE]
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            made[pkcs11.pkcs11.Attribute.VALUE]


def test_a_file_under_a_passphrase(tmp_path: Path) -> None:
    """A key file opens with its passphrase only, keeps it when it is rotated, is refused once others read it; a missing one is named."""
    name = f"file://{tmp_path}/kek"
    wrapped = create_key(name, "correct horse").wrap(DataKey.generate(), PLACE)
    key = open_key(name, "correct horse")
    assert key.rotate() == 2
    key.unwrap(wrapped, PLACE)
    with pytest.raises(UnsealError, match="passphrase"):
        open_key(name, "wrong horse")
    with pytest.raises(UsageError, match="passphrase"):
        open_key(name)
    (tmp_path / "kek").chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        open_key(name, "correct horse")
    with pytest.raises(UsageError) as caught:
        open_key(f"file://{tmp_path}/other")
    assert caught.value.error_code == "usage.missing_file"
    assert "securemllib keys kms create" in caught.value.next_step


BAD_NAMES = [
    "", "kek", "http://h/transit/keys/k", "file:kek", "file://host/kek", "file:///kek?a=b",
    "vault://h/transit/k", "vault://h/keys/k", "vault://h/transit/keys/../k", "vault://h/transit/keys/k?token=CANARY",
    "vault://CANARY@h/transit/keys/k", "vault+http://broker.example/transit/keys/k",
    "awskms://host/alias/k", "awskms:///", "awskms:///alias/k?secret=CANARY",
    "pkcs11:token=t", "pkcs11:token=t;object=k", "pkcs11:token=t;object=k?module-path=/m&pin-value=CANARY",
    "pkcs11:token=t;object=k;pin-value=CANARY?module-path=/m", "pkcs11:token=t;object=k;type=cert?module-path=/m",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """A name of another form, or with a secret in it, is refused before anything is asked, and a secret is not repeated."""
    for use_name in (open_key, create_key):
        with pytest.raises(UsageError) as caught:
            use_name(name)
        assert code_of(caught) == "usage.kek_name"
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "module", "name", "extra"),
    [
        ("hvac", "vault", "vault://h/transit/keys/k", "vault"),
        ("boto3", "aws", "awskms:///alias/k", "aws"),
        ("pkcs11", "pkcs11", "pkcs11:token=t;object=k?module-path=/m", "pkcs11"),
    ],
)
def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, library: str, module: str, name: str, extra: str) -> None:
    """Without an adapter's library the error says what to install."""
    monkeypatch.delitem(sys.modules, f"securemllib.kms.{module}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"pip install 'securemllib\[{extra}\]'") as caught:
        open_key(name)
    assert code_of(caught) == "usage.missing_extra"


def test_loopback_is_reached_without_a_proxy(vault_service: Service, monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    """A proxy that the environment names sees neither token nor secret of a key on loopback; to one of HTTPS it may carry all."""
    use(monkeypatch, vault_service)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://{silent}")
        monkeypatch.setenv(name.upper(), f"http://{silent}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    secret = DataKey.generate()
    key = create_key(vault_service.new_name())
    assert key.unwrap(key.wrap(secret, PLACE), PLACE).expose() == secret.expose()
    assert vault.VaultKey("vault://bao.example/transit/keys/k")._client.session.trust_env


def test_a_redirection_does_not_carry_the_token_away(vault_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that sends the client elsewhere is an error: the token is not sent there."""
    use(monkeypatch, vault_service)
    key = create_key(vault_service.new_name())
    sent: list[str] = []

    def redirect(session: requests.Session, method: str, url: str, **options: object) -> requests.Response:
        sent.append(url)
        assert options["allow_redirects"] is False
        response = requests.Response()
        response.status_code, response.headers["Location"], response._content = 307, "http://elsewhere.example/", b""
        return response

    monkeypatch.setattr(requests.Session, "request", redirect)
    with pytest.raises(UnavailableError, match="cannot do this"):
        key.describe()
    assert len(sent) == 1
