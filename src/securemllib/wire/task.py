"""Requests of a relay to its node's enclave, and the enclave's replies.

The enclave drives the loading of parts: it answers `NeedPart` until it holds what a request needs, and the relay follows each
with a `PartBytes`. What enclaves leave for each other, or for jobs to come, the relay keeps as sealed blocks under names: while a
request is worked on, the enclave hands blocks out with `KeepBlock`, which is not answered, asks with `NeedBlock` for those of its
job and of the models that the job uses, and with `NeedSum` for the sum of masked ones. A conversation on one connection::

    relay  Attest ──────────────► enclave      Attested (evidence)
    relay  Install (grant) ─────► enclave      Installed
    relay  Compute (state) ─────► enclave      (NeedPart | NeedBlock | KeepBlock)*, then Computed (statistics)   every worker
                                               or Masked (statistics), which relays add up
    relay  ComputeTogether ─────► enclave      NeedPart*, then ComputedTogether (statistics of several jobs)
    relay  Begin (checkpoint) ──► enclave      Advanced (state), or Recording               one aggregator
    relay  Update (statistics) ─► enclave      Gathered until all shares' came; then Advanced (state), Recording, or Finished
    relay  UpdateSum (sum) ─────► enclave      the same at once, after a masked round
    relay  Recorded ────────────► enclave      Advanced or Finished, once the broker recorded the head
    relay  Materialise (part) ──► enclave      NeedPart*, then Materialised (rows for a recipient)
    relay  End ─────────────────► enclave      Ended: the job's keys are dropped
"""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.attestation import Challenge
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = [
    "FRAME_BYTES", "MESSAGE_BYTES", "REPLIES", "REQUESTS", "Advanced", "Attest", "Attested", "Begin", "BlockBytes", "Compute",
    "ComputeTogether", "Computed", "ComputedTogether", "End", "Ended", "Failed", "Finished", "Gathered", "Install", "Installed",
    "KeepBlock", "Masked", "Materialise", "Materialised", "NeedBlock", "NeedPart", "NeedSum", "PartBytes", "Recorded", "Recording",
    "Update", "UpdateSum",
]  # fmt: skip


# A state, or one share's statistics: ten gradients of 300,000 features and two classes take 50 MB. What is larger is kept by the host in
# pieces.
MESSAGE_BYTES = 32 * 2**20
# A request's payload: several messages, of which none alone may be too large.
FRAME_BYTES = 2 * MESSAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest(Record):
    """Asks for evidence over a broker's challenge."""

    TYPE: ClassVar[str] = "attest"

    challenge: Challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested(Record):
    """Evidence, as the encoding of an `Evidence`."""

    TYPE: ClassVar[str] = "attested"

    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Install(Record):
    """Hands over the broker's signed `WrappedGrant`, the plan's manifest and the plan's sealed models, as their encodings."""

    TYPE: ClassVar[str] = "install"

    grant: Signed
    manifest: bytes
    models: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed(Record):
    """The enclave holds the job's keys."""

    TYPE: ClassVar[str] = "installed"

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute(Record):
    """Asks for the statistics of a share; the payload is the sealed state of that round.

    Attributes:
        job_id: The job.
        round: The round.
        share: The share.
        stays: Whether the statistics stay in the enclave, which aggregates the job, too, if they would fit a message.
    """

    TYPE: ClassVar[str] = "compute"

    job_id: str
    round: int
    share: int
    stays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed(Record):
    """The payload is the sealed statistics; it is empty where they stay."""

    TYPE: ClassVar[str] = "computed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked(Record):
    """The payload is a vector of little-endian unsigned 64-bit integers; the sum of those of all shares, modulo 2**64, is asked for.

    It is empty where the vector is too large for a message: then its pieces were kept, and their sums will be asked for one at a time.

    Attributes:
        salt: Of this share's mask.
    """

    TYPE: ClassVar[str] = "masked"

    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeTogether(Record):
    """Asks for the statistics of one share in rounds of several jobs, whose rows are read once; the payload is one state after the other.

    Attributes:
        requests: One for each job, all of the same share of the same parts.
        lengths: Bytes of each job's sealed state.
    """

    TYPE: ClassVar[str] = "compute-together"

    requests: tuple[Compute, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedTogether(Record):
    """The payload is the sealed or masked statistics of each job, one after the other.

    Attributes:
        replies: What each is.
        lengths: Bytes of each.
    """

    TYPE: ClassVar[str] = "computed-together"

    replies: tuple[Computed | Masked, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialise(Record):
    """Asks for the rows of one part, for the recipient of the job's rows at that index."""

    TYPE: ClassVar[str] = "materialise"

    job_id: str
    ordinal: int
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialised(Record):
    """The payload is a `SealedResult`."""

    TYPE: ClassVar[str] = "materialised"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedPart(Record):
    """Asks the relay for the bytes of a part."""

    TYPE: ClassVar[str] = "need-part"

    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBytes(Record):
    """The payload is the part's encrypted file."""

    TYPE: ClassVar[str] = "part-bytes"

    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepBlock(Record):
    """Asks the relay to keep the payload, a sealed block, among a job's under a name, in place of one of the same name."""

    TYPE: ClassVar[str] = "keep-block"

    job_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedBlock(Record):
    """Asks the relay for a block that it keeps for a job: this one, or one whose model this one uses."""

    TYPE: ClassVar[str] = "need-block"

    job_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedSum(Record):
    """Asks the relay for the sum, modulo 2**64, of blocks of little-endian unsigned 64-bit integers that it keeps for a job."""

    TYPE: ClassVar[str] = "need-sum"

    job_id: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBytes(Record):
    """The payload is the block, or the sum of blocks, that was asked for."""

    TYPE: ClassVar[str] = "block-bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Record):
    """Makes the enclave the job's aggregator; the payload is the sealed checkpoint of the recorded head, or empty where none is."""

    TYPE: ClassVar[str] = "begin"

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Record):
    """Hands the aggregator the sealed statistics of some shares, in order, one after the other; of those that stayed nothing.

    Attributes:
        lengths: Bytes of each.
        first: The first of the shares: 0, or the one after those that came before.
        more: Whether those of further shares will follow.
    """

    TYPE: ClassVar[str] = "update"

    job_id: str
    lengths: tuple[int, ...]
    first: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered(Record):
    """The aggregator added the statistics, and waits for those of further shares."""

    TYPE: ClassVar[str] = "gathered"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSum(Record):
    """Hands the aggregator the sum of the masked statistics of all shares; it is the payload, or empty where the statistics were kept.

    Attributes:
        salts: Each share's, in order.
    """

    TYPE: ClassVar[str] = "update-sum"

    job_id: str
    salts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced(Record):
    """The payload is the sealed state of the next round."""

    TYPE: ClassVar[str] = "advanced"

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(Record):
    """The aggregator waits until the broker has recorded a head; the payload is the sealed checkpoint to store first.

    Attributes:
        round: The checkpoint's round.
        update: A `HeadUpdate`, sealed under the job key.
    """

    TYPE: ClassVar[str] = "recording"

    round: int
    update: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Record):
    """The broker's acknowledgement, sealed under the job key."""

    TYPE: ClassVar[str] = "recorded"

    job_id: str
    acknowledgement: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Record):
    """The job is done.

    Attributes:
        round: The rounds that it took.
        model: A `SealedModel`, or empty.
        results: `SealedResult` each.
    """

    TYPE: ClassVar[str] = "finished"

    round: int
    model: bytes
    results: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Record):
    """Drops a job's keys."""

    TYPE: ClassVar[str] = "end"

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Record):
    """The job's keys are dropped."""

    TYPE: ClassVar[str] = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Record):
    """The request failed; only the error's code crosses the boundary, and what did not fit into memory, up to a power of two.

    Attributes:
        code: The error's code.
        needed: Bytes that would have fitted what did not; 0 where that is not it.
    """

    TYPE: ClassVar[str] = "failed"

    code: str
    needed: int = 0


REQUESTS: tuple[type[Record], ...] = (
    Attest,
    Install,
    Compute,
    ComputeTogether,
    Materialise,
    PartBytes,
    BlockBytes,
    Begin,
    Update,
    UpdateSum,
    Recorded,
    End,
)
REPLIES: tuple[type[Record], ...] = (
    Attested,
    Installed,
    Computed,
    Masked,
    ComputedTogether,
    Materialised,
    NeedPart,
    NeedBlock,
    NeedSum,
    KeepBlock,
    Gathered,
    Advanced,
    Recording,
    Finished,
    Ended,
    Failed,
)
