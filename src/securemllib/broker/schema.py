"""The broker's tables. Columns called ``sealed_*`` hold keys and hidden column names, sealed under the store's key."""

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "ACCEPTED",
    "FINISHED",
    "RELEASED",
    "ApprovalRow",
    "AuditHeadRow",
    "AuditRow",
    "AuditSubjectRow",
    "Base",
    "DatasetRow",
    "GrantRow",
    "JobRow",
    "JobRuleRow",
    "KekRow",
    "KeyRow",
    "ModelRow",
    "OwnerRow",
    "PolicyRow",
    "RecoveryRow",
    "RuleRunsRow",
    "SessionRow",
    "VersionRow",
]

# What a job's status may be.
ACCEPTED, FINISHED, RELEASED = "accepted", "finished", "released"

_FINGERPRINT = String(52)
_IDENTIFIER = String(128)


class Base(DeclarativeBase):
    """Base of all tables."""


class KekRow(Base):
    """The name of the key-encryption key under which new secrets are wrapped: one row, or none before there was a change."""

    __tablename__ = "key_encryption_key"

    identifier: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)


class OwnerRow(Base):
    """An owner that may enrol datasets."""

    __tablename__ = "owners"

    fingerprint: Mapped[str] = mapped_column(_FINGERPRINT, primary_key=True)
    identity: Mapped[bytes] = mapped_column(LargeBinary)


class KeyRow(Base):
    """An identity that is no longer in force: rotated where it has a successor, revoked, or both."""

    __tablename__ = "keys"

    fingerprint: Mapped[str] = mapped_column(_FINGERPRINT, primary_key=True)
    successor: Mapped[bytes | None] = mapped_column(LargeBinary)
    is_revoked: Mapped[bool] = mapped_column()
    at: Mapped[int] = mapped_column(BigInteger)


class DatasetRow(Base):
    """A dataset, its owner (or whom that one rotated to), and its latest version.

    A frozen dataset waits for its owner to accept a restored store.
    """

    __tablename__ = "datasets"

    dataset_id: Mapped[str] = mapped_column(_IDENTIFIER, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.fingerprint"))
    version: Mapped[int] = mapped_column(BigInteger)
    is_frozen: Mapped[bool] = mapped_column(default=False)


class VersionRow(Base):
    """One version of a dataset."""

    __tablename__ = "dataset_versions"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_columns: Mapped[bytes] = mapped_column(LargeBinary)


class PolicyRow(Base):
    """One serial of a dataset's policy, or its revocation, in the envelope that came; the highest serial is in force."""

    __tablename__ = "policies"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"), primary_key=True)
    serial: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    signed: Mapped[bytes] = mapped_column(LargeBinary)
    is_revocation: Mapped[bool] = mapped_column()


class ApprovalRow(Base):
    """One approver's word for the release of a model, in the envelope that came; named by the digest of what was signed."""

    __tablename__ = "approvals"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.model_id"), primary_key=True)
    approver: Mapped[str] = mapped_column(_FINGERPRINT, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    signed: Mapped[bytes] = mapped_column(LargeBinary)


class RuleRunsRow(Base):
    """How many jobs a rule has allowed, by its name: a new policy serial does not start the count again."""

    __tablename__ = "rule_runs"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"), primary_key=True)
    rule: Mapped[str] = mapped_column(Text, primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)


class JobRow(Base):
    """An accepted job: its keys, how often it was granted, and its head.

    ``epoch`` counts grants; ``aggregator_epoch`` is the epoch that moved the head last, 0 before.
    """

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(_IDENTIFIER, primary_key=True)
    signed: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_job_key: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_model_key: Mapped[bytes] = mapped_column(LargeBinary)
    lineage: Mapped[bytes] = mapped_column(LargeBinary)
    epoch: Mapped[int] = mapped_column(BigInteger)
    aggregator_epoch: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[bytes | None] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(String(16))


class JobRuleRow(Base):
    """Which rule of a dataset's policy counted an accepted job last."""

    __tablename__ = "job_rules"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"), primary_key=True)
    rule: Mapped[str] = mapped_column(Text)


class GrantRow(Base):
    """One grant of a job: the signed attestation result of the enclave that got it."""

    __tablename__ = "grants"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    result: Mapped[bytes] = mapped_column(LargeBinary)


class ModelRow(Base):
    """A sealed model that a job finished with. Its key is the job's model key."""

    __tablename__ = "models"

    model_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    epoch: Mapped[int] = mapped_column(BigInteger)


class SessionRow(Base):
    """One attestation: a challenge, then an attested identity, then a grant. Named by the digest of the session cookie."""

    __tablename__ = "sessions"

    session: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), index=True)
    tee: Mapped[str] = mapped_column(String(32))
    challenge: Mapped[bytes] = mapped_column(LargeBinary)
    expires: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    evidence: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditRow(Base):
    """One entry of the audit log."""

    __tablename__ = "audit"

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    payload: Mapped[str] = mapped_column(Text)
    digest: Mapped[bytes] = mapped_column(LargeBinary)


class AuditSubjectRow(Base):
    """Which datasets an audit entry is about: an index, not covered by the chain; the entry itself names them too."""

    __tablename__ = "audit_subjects"

    sequence: Mapped[int] = mapped_column(ForeignKey("audit.sequence"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(_IDENTIFIER, primary_key=True, index=True)


class RecoveryRow(Base):
    """The end of the audit log when an older store was put in place the last time: one row, or none."""

    __tablename__ = "recovery"

    identifier: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(BigInteger)
    entry: Mapped[bytes] = mapped_column(LargeBinary)


class AuditHeadRow(Base):
    """The signed head of the audit log, and when its entry was made by the clock of the broker that made it: one row."""

    __tablename__ = "audit_head"

    identifier: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    signed: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[int] = mapped_column(BigInteger)
