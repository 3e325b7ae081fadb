"""Policies as owners write them: YAML, read strictly, so that a misspelt bound is an error and not a missing bound."""

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from securemllib.algorithms.registry import ALGORITHMS, param_name
from securemllib.errors import UsageError
from securemllib.owner.identity_file import load_public
from securemllib.owner.strict_yaml import StrictReader, read_yaml, wrong
from securemllib.wire.job import RELEASE_OPERATION, ROWS_OPERATION, Mode, OutputKind
from securemllib.wire.policy import (
    ANY,
    TCB_STATUSES,
    UP_TO_DATE,
    AppraisalPolicy,
    Bound,
    OperationRule,
    OutputRule,
    Policy,
    Rule,
    SignerRule,
)

__all__ = ["TEMPLATE", "load_appraisal", "load_policy", "policy_from_text"]

TEMPLATE = """\
# What this dataset's owner allows. Whatever no rule allows is refused.
serial: 1                       # grows with each change; left out, it is the time of signing
enclaves:
  allow_insecure: false         # true accepts processes without a TEE: they protect nothing against the cluster's operator
  tees: [sgx]                   # sgx, tdx
  measurements: []              # hexadecimal, from `securemllib enclave measure`; an empty list accepts none
  signers: []                   # or all versions from one on: {signer: MRSIGNER, product_id: 1, minimum_security_version: 2}
  minimum_security_version: 0   # of every enclave, whatever names it
  tcb_statuses: [UpToDate]      # Intel's words for the state of a platform; SWHardeningNeeded is another, Revoked never accepted
  advisories: []                # Intel's advisories that may apply to a platform all the same, like INTEL-SA-00615
  # insecure_roots: []          # tests: SHA-256 of a root certificate that stands in for Intel's; needs allow_insecure, too
rules:
  - name: training
    analysts: [analyst.pub]     # fingerprints, or .pub files beside this one
    operations:                 # pyspark.ml names; a bound is {min, max} or {allowed: [...]}, Params without one are free
      LinearRegression:
        regParam: {min: 0.0}
        maxIter: {max: 200}
      RegressionEvaluator: {}
    columns: [age, weight, label]   # or `all`
    outputs:                    # what may leave, to whom; without an entry it does not leave
      summary: [analyst.pub]
      metric: [analyst.pub]
      sealed_model: [analyst.pub]
      # plain_model: [analyst.pub]    # the rule needs the operation ReleaseModel and those of the models that it releases
      # rows: {recipients: [analyst.pub], columns: [prediction]}
    not_before: 2026-01-01
    not_after: 2027-01-01
    maximum_runs: 100
    # The fewest rows behind a metric, a summary, or a group that a summary tells apart.
    min_group_size: 0
"""

_FINGERPRINT = re.compile(r"[a-z2-7]{52}")
_POLICY_FIELDS = ("serial", "enclaves", "rules")
_ENCLAVE_FIELDS = (
    "allow_insecure", "tees", "measurements", "signers", "minimum_security_version", "tcb_statuses", "advisories", "insecure_roots",
)  # fmt: skip
_SIGNER_FIELDS = ("signer", "product_id", "minimum_security_version")
_RULE_FIELDS = (
    "name", "analysts", "operations", "columns", "modes", "outputs", "not_before", "not_after", "maximum_runs", "min_group_size",
)  # fmt: skip
_BOUND_FIELDS = ("min", "max", "allowed")
_ROWS_FIELDS = ("recipients", "columns")
_TEES = ("sgx", "tdx")
_MEASUREMENT_BYTES = (32, 48)
_DIGEST_BYTES = (32,)
# ISVPRODID and ISVSVN are 16 bits wide.
_SIXTEEN_BITS = 2**16
_ADVISORY = re.compile(r"INTEL-(SA|DOC)-[0-9]{5}")


def load_policy(path: Path, *, dataset_id: str, owner: str, serial: int | None = None) -> Policy:
    """Return the policy of a YAML file; the ``.pub`` files that it names lie relative to it."""
    return policy_from_text(_read_text(path), dataset_id=dataset_id, owner=owner, serial=serial, directory=path.parent)


def load_appraisal(path: Path) -> AppraisalPolicy:
    """Return what a policy's YAML file says of enclaves; its rules are not read, so no ``.pub`` file is needed."""
    reader = _Reader(path.parent)
    return reader.enclaves(reader.mapping(read_yaml(_read_text(path)), "policy", _POLICY_FIELDS, required=("enclaves",))["enclaves"])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"There is no file {path}.", next_step="`securemllib policy template` writes one.", code="usage.missing_file"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no UTF-8 text.", code="usage.policy") from None


def policy_from_text(text: str, *, dataset_id: str, owner: str, serial: int | None = None, directory: Path | None = None) -> Policy:
    """Return the policy of a YAML text.

    Args:
        text: The YAML.
        dataset_id: The dataset that the policy is for.
        owner: The owner's fingerprint.
        serial: Overrides the text's serial; without either it is the time in seconds.
        directory: Where ``.pub`` files lie.

    Raises:
        UsageError: The text is no YAML, or has a field, operation, Param or value that policies do not have.
    """
    tree = read_yaml(text)
    reader = _Reader(directory or Path())
    top = reader.mapping(tree, "policy", _POLICY_FIELDS, required=("enclaves", "rules"))
    given = serial if serial is not None else reader.integer(top.get("serial"), "serial")
    return Policy(
        dataset_id=dataset_id,
        owner=owner,
        serial=given if given is not None else int(datetime.now(tz=UTC).timestamp()),
        enclaves=reader.enclaves(top["enclaves"]),
        rules=tuple(reader.rule(item, position) for position, item in enumerate(reader.sequence(top["rules"], "rules"), start=1)),
    )


class _Reader(StrictReader):
    """Turns the YAML's values into the policy's records."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def enclaves(self, tree: Any) -> AppraisalPolicy:
        known = self.mapping(tree, "enclaves", _ENCLAVE_FIELDS)
        insecure = known.get("allow_insecure", False)
        if type(insecure) is not bool:
            raise wrong("enclaves.allow_insecure", "is true or false")
        return AppraisalPolicy(
            allow_insecure=insecure,
            tees=self._names(known, "tees", _TEES),
            measurements=self._digests(known, "measurements", _MEASUREMENT_BYTES),
            minimum_security_version=self.integer(known.get("minimum_security_version", 0), "enclaves.minimum_security_version") or 0,
            signers=tuple(self._signer(item) for item in self.sequence(known.get("signers", []), "enclaves.signers")),
            tcb_statuses=self._names(known, "tcb_statuses", TCB_STATUSES, default=(UP_TO_DATE,)),
            advisories=tuple(self._advisory(item) for item in self.sequence(known.get("advisories", []), "enclaves.advisories")),
            insecure_roots=self._digests(known, "insecure_roots", _DIGEST_BYTES),
        )

    def rule(self, tree: Any, position: int) -> Rule:
        where = f"rules[{position}]"
        known = self.mapping(tree, where, _RULE_FIELDS, required=("name", "analysts", "operations", "columns", "outputs"))
        modes = self.sequence(known.get("modes", [Mode.ENCLAVE.value]), f"{where}.modes")
        not_before, not_after = (self._time(known.get(field), f"{where}.{field}") for field in ("not_before", "not_after"))
        if not_before is not None and not_after is not None and not_before >= not_after:
            raise wrong(f"{where}.not_after", "is later than not_before")
        return Rule(
            name=self.text(known["name"], f"{where}.name"),
            analysts=self.people(known["analysts"], f"{where}.analysts"),
            operations=self.operations(known["operations"], f"{where}.operations"),
            columns=self.columns(known["columns"], f"{where}.columns"),
            modes=tuple(Mode(self.name(mode, f"{where}.modes", [item.value for item in Mode])) for mode in modes),
            outputs=self.outputs(known["outputs"], f"{where}.outputs"),
            not_before=not_before,
            not_after=not_after,
            maximum_runs=self.integer(known.get("maximum_runs"), f"{where}.maximum_runs"),
            min_group_size=self.integer(known.get("min_group_size"), f"{where}.min_group_size") or 0,
        )

    def operations(self, tree: Any, where: str) -> tuple[OperationRule, ...]:
        if tree == "all":
            return (OperationRule(operation=ANY, bounds={}),)
        operations = []
        for operation, bounds in self.mapping(tree, where, (*ALGORITHMS, ROWS_OPERATION, RELEASE_OPERATION)).items():
            params = [param_name(field.name) for field in fields(ALGORITHMS[operation]) if field.init] if operation in ALGORITHMS else []
            known = self.mapping(bounds or {}, f"{where}.{operation}", params)
            rules = {param: self.bound(item, f"{where}.{operation}.{param}") for param, item in known.items()}
            operations.append(OperationRule(operation=operation, bounds=rules))
        return tuple(operations)

    def bound(self, tree: Any, where: str) -> Bound:
        known = self.mapping(tree, where, _BOUND_FIELDS)
        if not known:
            raise wrong(where, "has min, max or allowed")
        minimum, maximum = (self._number(known.get(field), f"{where}.{field}") for field in ("min", "max"))
        if minimum is not None and maximum is not None and minimum > maximum:
            raise wrong(f"{where}.max", "is at least min")
        allowed = self.sequence(known.get("allowed", []), f"{where}.allowed")
        if "allowed" in known and not allowed:
            raise wrong(f"{where}.allowed", "names at least one value")
        if not all(type(item) in {type(None), bool, int, float, str} for item in allowed):
            raise wrong(f"{where}.allowed", "holds numbers, texts, true, false and null only")
        return Bound(minimum=minimum, maximum=maximum, allowed=tuple(allowed))

    def outputs(self, tree: Any, where: str) -> tuple[OutputRule, ...]:
        outputs = []
        for kind, value in self.mapping(tree, where, [item.value for item in OutputKind]).items():
            columns: tuple[str, ...] = ()
            if kind == OutputKind.ROWS.value:
                known = self.mapping(value, f"{where}.rows", _ROWS_FIELDS, required=_ROWS_FIELDS)
                value, columns = known["recipients"], self.columns(known["columns"], f"{where}.rows.columns")
            outputs.append(OutputRule(kind=OutputKind(kind), recipients=self.people(value, f"{where}.{kind}"), columns=columns))
        return tuple(outputs)

    def people(self, tree: Any, where: str) -> tuple[str, ...]:
        """Return fingerprints: each item is one, or the path of a ``.pub`` file."""
        people = []
        for item in self.sequence(tree, where):
            text = self.text(item, where)
            if _FINGERPRINT.fullmatch(text):
                people.append(text)
            elif text.endswith(".pub"):
                people.append(load_public(self._directory / text).fingerprint)
            else:
                raise wrong(where, "holds fingerprints (52 characters) and paths of .pub files", text)
        return tuple(people)

    def columns(self, tree: Any, where: str) -> tuple[str, ...]:
        if tree == "all":
            return (ANY,)
        return tuple(self.text(item, where) for item in self.sequence(tree, where))

    def _number(self, value: Any, where: str) -> float | None:
        if value is not None and (type(value) not in {int, float} or value != value):
            raise wrong(where, "is a number")
        return None if value is None else float(value)

    def _names(self, known: Mapping[str, Any], field: str, words: tuple[str, ...], default: tuple[str, ...] = ()) -> tuple[str, ...]:
        where = f"enclaves.{field}"
        return tuple(self.name(item, where, words) for item in self.sequence(known.get(field, list(default)), where))

    def _digests(self, known: Mapping[str, Any], field: str, lengths: tuple[int, ...]) -> tuple[bytes, ...]:
        where = f"enclaves.{field}"
        return tuple(self.digest(item, where, lengths) for item in self.sequence(known.get(field, []), where))

    def _signer(self, tree: Any) -> SignerRule:
        known = self.mapping(tree, "enclaves.signers", _SIGNER_FIELDS, required=_SIGNER_FIELDS)
        numbers = {field: known[field] for field in _SIGNER_FIELDS[1:]}
        for field, number in numbers.items():
            if type(number) is not int or not 0 <= number < _SIXTEEN_BITS:
                raise wrong(f"enclaves.signers.{field}", "is a whole number below 65536")
        return SignerRule(signer=self.digest(known["signer"], "enclaves.signers.signer", _DIGEST_BYTES), **numbers)

    def _advisory(self, value: Any) -> str:
        if not isinstance(value, str) or not _ADVISORY.fullmatch(value):
            raise wrong("enclaves.advisories", "holds ids like INTEL-SA-00615", str(value))
        return value

    def _time(self, value: Any, where: str) -> int | None:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise wrong(where, "is an ISO 8601 date or time") from None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if value is not None and not isinstance(value, datetime):
            raise wrong(where, "is an ISO 8601 date or time")
        if value is None:
            return None
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
