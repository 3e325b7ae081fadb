"""Tables of encoded columns, and queries over them that plain Spark runs: nothing here can open a code."""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn

from pyspark.sql import DataFrame
from sqlglot import exp

from securemllib.errors import FormatError, IntegrityError, SealedError, UsageError
from securemllib.spark.enclave_query import EnclaveFrame
from securemllib.spark.encrypted_sums import EncryptedSum, with_encrypted_sums
from securemllib.spark.source import Source
from securemllib.spark.storage import Folder
from securemllib.sql.catalog import EncodedTable
from securemllib.sql.enclave_plan import EnclaveQuery, plan_for_enclave
from securemllib.sql.parsing import DIALECT, parse_query, parse_select
from securemllib.sql.planning import Codes, EncodedQuery, plan
from securemllib.wire.companion import COMPANION_DIRECTORY, COMPANION_FILE, Companion, EncodingName
from securemllib.wire.dataset import Manifest
from securemllib.wire.query import HEADER_FILE, ROWS_DIRECTORY, Field, Form, ResultHeader
from securemllib.wire.signed import Signed

if TYPE_CHECKING:
    from securemllib.spark.session import SecureSession

__all__ = ["EncodedFrame", "EncodedSource", "EncodedTables", "read_encoded"]

_MANIFEST = "manifest.sml"
_ROUTES = ("encoded", "enclave", "auto")
_EXPLAINED = (
    "-- route: encoded. Plain Spark computes on codes; nothing proves that it answers this query. No job runs, no policy counts it.\n"
)
# What a query may be refused for that another route may answer.
_UNANSWERED = frozenset({"usage.encoding", "usage.join_group", "usage.query"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSource:
    """A companion in a folder, under the name that queries call it.

    Attributes:
        folder: The dataset's folder.
        digest: The digest of the companion's record, which an agent compares with the one that the owner signed.
        table: What queries may ask of it.
        view: The temporary view of Spark that reads its files.
        sealed: The dataset version that it is of, whose rows enclaves read.
    """

    folder: Folder
    digest: bytes
    table: EncodedTable
    view: str
    sealed: Source


def read_encoded(session: "SecureSession", path: str) -> EncodedSource:
    """Return the companion of a dataset directory.

    1. Its record and the dataset's manifest name the same version and owner.
    2. Its files have the lengths and digests that the record says.

    The signature of the record is for the agent to verify, which it does before it encodes a literal.

    Raises:
        IntegrityError: 1 or 2 does not hold.
    """
    folder = Folder.of(path)
    encoded = _payload(folder, _MANIFEST, Manifest.TYPE)
    manifest = Manifest.from_bytes(encoded)
    files = folder.child(COMPANION_DIRECTORY)
    companion = Companion.from_bytes(_payload(files, COMPANION_FILE, Companion.TYPE))
    if (companion.dataset, companion.owner) != (manifest.reference, manifest.owner):  # 1
        raise IntegrityError("The companion is of another dataset, or of another version.", code="integrity.companion")
    for part in companion.parts:  # 2
        data = files.read(part.file)
        if (len(data), sha256(data).digest()) != (part.length, part.sha256):
            raise IntegrityError(f"The file {part.file} of the companion is not what its owner wrote.", code="integrity.companion")
    view = f"securemllib_{companion.dataset.dataset_id}_{companion.dataset.version}"
    session.spark.read.parquet(*(f"{files.root}/{part.file}" for part in companion.parts)).createOrReplaceTempView(view)
    table = EncodedTable(
        name=f"t{companion.dataset.dataset_id}", companion=companion, sealed=tuple(column.name for column in manifest.columns)
    )
    sealed = Source(folder=folder, manifest=manifest, encoded=encoded)
    return EncodedSource(folder=folder, digest=companion.content_digest(), table=table, view=view, sealed=sealed)


class EncodedTables:
    """The encoded tables that a session's queries may name."""

    def __init__(self, session: "SecureSession") -> None:
        self._session = session
        self._named: dict[str, EncodedSource] = {}

    def read(self, path: str) -> "EncodedFrame":
        """Return the encoded columns of a dataset directory, without a name of its own."""
        source = read_encoded(self._session, path)
        return EncodedFrame(self._session, {source.table.name: source}, _all_of(source.table.name))

    def name(self, name: str, source: EncodedSource) -> None:
        """Let queries call a table by a name."""
        self._named[name] = replace(source, table=replace(source.table, name=name))

    def query(self, text: str) -> "EncodedFrame":
        """Return a query over the named tables."""
        return EncodedFrame(self._session, dict(self._named), parse_select(text))


class EncodedFrame:
    """A query over encoded columns; made by `SecureSession.sql` and `SecureSession.readEncoded`.

    Its methods take Spark SQL, as text: names, conditions, and aggregates with ``AS``. The result is of codes; who has the columns' keys
    opens what `save` wrote with ``securemllib data open-result``.

    Args:
        session: The session.
        sources: The tables that the query may name.
        select: The query.
    """

    def __init__(self, session: "SecureSession", sources: dict[str, EncodedSource], select: exp.Select) -> None:
        self.session = session
        self._sources = sources
        self._select = select

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [output.name for output in self._planned().header.outputs]

    def createOrReplaceTempView(self, name: str) -> None:
        """Let queries call this table by a name; only a table as it was read has one."""
        table = self._select.find(exp.Table)
        if table is None or self._select != _all_of(table.name):
            raise UsageError("Only a table as it was read gets a name.", next_step="Write the query in one SELECT.", code="usage.query")
        if not name.isidentifier():
            raise UsageError(f"{name!r} names no table.", next_step="Use letters, digits and _.", code="usage.table")
        self.session._tables.name(name, self._sources[table.name])

    def select(self, *columns: str) -> "EncodedFrame":
        """Return the given columns and expressions."""
        return self._with(self._select.select(*columns, append=False, dialect=DIALECT))

    def filter(self, condition: str) -> "EncodedFrame":
        """Return the rows for which a condition is true."""
        return self._with(self._select.where(condition, dialect=DIALECT))

    where = filter

    def join(self, other: "EncodedFrame", on: str, how: str = "inner") -> "EncodedFrame":
        """Return the rows joined with those of another table, as it was read."""
        table = other._select.find(exp.Table)
        if table is None or other._select != _all_of(table.name):
            raise UsageError("The right side of a join is a table as it was read.", next_step="Filter after the join.", code="usage.query")
        if any(self._sources.get(name, source) is not source for name, source in other._sources.items()):
            raise UsageError(
                f"Two tables are called {table.name}.", next_step="Name them with `createOrReplaceTempView`.", code="usage.table"
            )
        joined = self._select.join(table.copy(), on=on, join_type=how, dialect=DIALECT)
        return EncodedFrame(self.session, {**self._sources, **other._sources}, joined)

    def groupBy(self, *columns: str) -> "EncodedGroups":
        """Return the rows grouped by columns."""
        return EncodedGroups(self, columns)

    def agg(self, *aggregates: str) -> "EncodedFrame":
        """Return aggregates over all rows."""
        return self._with(self._select.select(*aggregates, append=False, dialect=DIALECT))

    def orderBy(self, *keys: str) -> "EncodedFrame":
        """Return the rows sorted; a key is a column or output, with ``DESC`` behind it or not."""
        return self._with(self._select.order_by(*keys, dialect=DIALECT))

    sort = orderBy

    def limit(self, number: int) -> "EncodedFrame":
        """Return the first rows."""
        return self._with(self._select.limit(number, dialect=DIALECT))

    def distinct(self) -> "EncodedFrame":
        """Return each row once."""
        return self._with(self._select.distinct())

    def withRoute(self, route: str) -> "EncodedFrame | EnclaveFrame":
        """Return the query by another route; see `SecureSession.sql`."""
        if route not in _ROUTES:
            raise UsageError(f"There is no route {route!r}; there are {', '.join(_ROUTES)}.", code="usage.route")
        if route == "encoded":
            return self
        if route == "enclave":
            return EnclaveFrame(self.session, *self._in_enclaves())
        try:
            self._plan()
        except UsageError as error:
            if error.error_code not in _UNANSWERED:
                raise
            return self._fallen_back(error)
        return self

    def encoded(self) -> DataFrame:
        """Return what Spark computes, as a plain data frame of codes."""
        return self._run(self._planned())

    def explain(self) -> str:
        """Return the route, and the SQL that Spark runs, with placeholders for the codes of literals."""
        planned = self._planned()
        return _EXPLAINED + planned.sql(tuple((f":{number}",) * 3 for number in range(len(planned.literals))))

    def save(self, path: str) -> ResultHeader:
        """Run the query, write its result in codes to a new folder, and return what the recipient makes of it."""
        planned = self._planned()
        folder = Folder.of(path)
        folder.require_new()
        self._run(planned).write.parquet(f"{folder.root}/{ROWS_DIRECTORY}")
        folder.write(HEADER_FILE, planned.header.to_bytes())
        return planned.header

    def _planned(self) -> EncodedQuery:
        """Return the query on codes; an error says whether enclaves would run it."""
        try:
            return self._plan()
        except UsageError as error:
            if error.error_code not in _UNANSWERED:
                raise
            try:
                jobs = self._in_enclaves()[0].jobs
            except UsageError:
                raise error from None
            more = f'Or ask with route="enclave": {jobs} job{"s" * (jobs > 1)} on the sealed rows, if the owner\'s policy allows it.'
            raise UsageError(error.reason, next_step=f"{error.next_step} {more}", code=error.error_code) from error

    def _plan(self) -> EncodedQuery:
        return plan(self._parsed(), self._tables())

    def _in_enclaves(self) -> tuple[EnclaveQuery, Source]:
        """Return what enclaves do for the query, and the dataset; `UsageError` where they do not run it."""
        parsed = self._parsed()
        source = self._sources[parsed.find(exp.Table).name].sealed  # type: ignore[union-attr]
        return plan_for_enclave(parsed, source.manifest.columns or ()), source

    def _fallen_back(self, unanswered: UsageError) -> EnclaveFrame:
        try:
            return EnclaveFrame(self.session, *self._in_enclaves(), because=unanswered.reason)
        except UsageError as error:
            reason = f"{unanswered.reason} {error.reason}"
            raise UsageError(reason, next_step=f"{unanswered.next_step} {error.next_step}", code=unanswered.error_code) from error

    def _parsed(self) -> exp.Select:
        return parse_query(self._select, self._tables())

    def _tables(self) -> dict[str, EncodedTable]:
        return {name: source.table for name, source in self._sources.items()}

    def _run(self, planned: EncodedQuery) -> DataFrame:
        views = {name: source.view for name, source in self._sources.items()}
        rows = self.session.spark.sql(planned.sql(self._codes(planned), views))
        sums = [self._encrypted_sum(field) for field in planned.header.fields if _is_encrypted_sum(field)]
        return with_encrypted_sums(rows, sums) if sums else rows

    def _encrypted_sum(self, field: Field) -> EncryptedSum:
        source = next(source for source in self._sources.values() if source.table.companion.dataset == field.dataset)
        file = source.table.companion.ciphertexts[field.column].file
        return EncryptedSum(name=field.physical[0], rows=field.rows, folder=source.folder.child(COMPANION_DIRECTORY), file=file)

    def _codes(self, planned: EncodedQuery) -> tuple[Codes, ...]:
        """Return the codes of all literals from the agent, which verifies each companion, also one without literals."""
        codes: dict[int, Codes] = {}
        for source in {id(source): source for name, source in self._sources.items() if name in planned.tables}.values():
            own = [number for number, literal in enumerate(planned.literals) if literal.dataset == source.table.companion.dataset]
            asked = tuple(planned.literals[number] for number in own)
            answered = self.session.agent.encode_literals(source.folder.root, source.digest, asked)
            codes |= {number: found.parts for number, found in zip(own, answered, strict=True)}
        return tuple(codes[number] for number in range(len(planned.literals)))

    def _with(self, select: exp.Select) -> "EncodedFrame":
        return EncodedFrame(self.session, self._sources, select)


class EncodedGroups:
    """Rows grouped by columns, of which `agg` makes a frame."""

    def __init__(self, frame: EncodedFrame, columns: tuple[str, ...]) -> None:
        self._frame = frame
        self._columns = columns

    def agg(self, *aggregates: str) -> EncodedFrame:
        """Return the columns and the aggregates, a row a group."""
        select = self._frame._select.select(*self._columns, *aggregates, append=False, dialect=DIALECT)
        return self._frame._with(select.group_by(*self._columns, dialect=DIALECT))

    def count(self) -> EncodedFrame:
        """Return the columns and how many rows each group has."""
        return self.agg("count(*) AS count")


def _closed(name: str) -> Any:
    def refuse(self: EncodedFrame, *arguments: Any, **named: Any) -> NoReturn:
        del self, arguments, named
        raise SealedError(
            f"`{name}` would need the columns' keys, which the host does not have.",
            next_step="Write the result with `save`, and open it with `securemllib data open-result` where the keys are.",
        )

    refuse.__name__ = name
    refuse.__doc__ = f"Refuse: `{name}` would show opened values."
    return refuse


for _name in ("collect", "count", "first", "head", "show", "tail", "take", "toArrow", "toLocalIterator", "toPandas"):
    setattr(EncodedFrame, _name, _closed(_name))


def _is_encrypted_sum(field: Field) -> bool:
    return field.form is Form.SUM and field.encoding is EncodingName.HOMOMORPHIC


def _all_of(name: str) -> exp.Select:
    return exp.select("*").from_(exp.to_table(name))


def _payload(folder: Folder, name: str, kind: str) -> bytes:
    signed = Signed.from_bytes(folder.read(name))
    if signed.payload_type != kind:
        raise FormatError(f"{name} of {folder.root} holds a {signed.payload_type}.")
    return signed.payload
