"""Policies as owners write them: YAML, read strictly, so that a misspelt bound is an error and not a missing bound."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from securemllib.errors import FormatError, UsageError
from securemllib.owner.identity_file import load_public
from securemllib.owner.policy_problems import Problem, problems_of
from securemllib.owner.strict_yaml import read_yaml_lines
from securemllib.policy.model import ANY, FINGERPRINT, Policy
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.policy import AppraisalPolicy

__all__ = ["TEMPLATE", "Written", "for_broker", "load_appraisals", "load_policy", "policy_from_text", "read_policy"]

TEMPLATE = """\
# What this dataset's owner allows. Whatever no rule allows is refused.
profile: production             # or `development`, which only brokers of that profile take
# broker: broker.pub            # the only broker that may put it in force; `policy sign` and `enrol` fill in the one that you trust
people:                         # names for fingerprints, and for .pub files beside this one
  analyst: analyst.pub
enclaves:                       # which code on which platforms may receive keys
  release-1:
    measurement: "{measurement}"  # from `securemllib enclave measure`
    tees: [sgx]                 # sgx, tdx
  # from-version-2:             # or every version from one on of a signer's product
  #   signer: MRSIGNER
  #   product_id: 1
  #   minimum_security_version: 2
  #   tees: [sgx]
  #   tcb_statuses: [UpToDate, SWHardeningNeeded]   # Intel's words for the state of a platform
  #   advisories: [INTEL-SA-00615]                  # Intel's advisories that may apply to it all the same
rules:
  - name: training
    analysts: [analyst]
    operations:                 # pyspark.ml names; a bound is {min, max} or {allowed: [...]}, Params without one are free
      LinearRegression:
        regParam: {min: 0.0}
        maxIter: {max: 200}
      RegressionEvaluator:
    columns: [age, weight, label]   # or `all`
    outputs:                    # what may leave, to whom; without an entry it does not leave
      summary: [analyst]
      metric: [analyst]
      sealed_model: [analyst]
      # sealed_statistics: [analyst]   # the sums behind a model, sealed: a training goes on from them, nobody opens them
      # plain_model: [analyst]    # the rule needs the operation ReleaseModel and those of the models that it releases
      # rows: {recipients: [analyst], columns: [prediction]}
    not_before: 2026-01-01
    not_after: 2030-01-01
    maximum_runs: 100
    min_group_size: 10          # the fewest rows behind a metric, a summary, or a group that a summary tells apart
# approvals:                    # what the owner alone may not do
#   policy_change: {threshold: 2, approvers: [alice.pub, bob.pub, carol.pub]}
#   model_release: {threshold: 2, approvers: [alice.pub, bob.pub, carol.pub]}
# expires: 2031-01-01           # after it nothing is allowed
# allow_insecure: true          # accepts processes without a TEE ...
# insecure_risk: the-operator-can-read-everything   # ... and says what that means, without which production refuses it
"""

_OWN_FIELDS = ("dataset", "people")
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A policy as it stands in a file.

    Attributes:
        name: The file's name.
        tree: The YAML's values.
        lines: The line of each place.
        directory: Where ``.pub`` files lie.
    """

    name: str
    tree: Any
    lines: Mapping[Path_, int]
    directory: Path

    @property
    def dataset(self) -> str | None:
        """The dataset's id, where the file says it."""
        found = self.tree.get("dataset") if isinstance(self.tree, dict) else None
        return found if isinstance(found, str) else None

    def line(self, place: Path_) -> int:
        """Return the line of a place, or of what holds it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def people(self) -> dict[str, str]:
        """Return the names that the file gives to people, and their fingerprints."""
        found = self.tree.get("people") if isinstance(self.tree, dict) else None
        names = found.items() if isinstance(found, dict) else ()
        return {str(name): self.fingerprint(str(name)) for name, _ in names}

    def fingerprint(self, person: str) -> str:
        """Return the fingerprint of somebody: of a name of the file, of a ``.pub`` file, or the fingerprint itself."""
        return str(_Resolver(self).fingerprint(person, ("people",)))

    def resolve(self, *, dataset_id: str | None, owner: str, serial: int | None = None, broker: str | None = None) -> Policy:
        """Return what is to be signed.

        Args:
            dataset_id: The dataset that it is for; None takes the file's.
            owner: The owner's fingerprint.
            serial: Overrides the file's serial; without either it is the time in seconds.
            broker: The fingerprint of the broker that it is for, where the file names none.

        Raises:
            UsageError: The file has a field, operation, Param or value that policies do not have, or is of another dataset or broker.
        """
        if not isinstance(self.tree, dict):
            raise UsageError(f"{self.name} is no policy: it has no fields.", code="usage.policy")
        if None not in {dataset_id, self.dataset} and dataset_id != self.dataset:
            raise UsageError(f"{self.name} is the policy of dataset {self.dataset}, not of {dataset_id}.", code="usage.policy")
        try:
            policy = self._policy(dataset_id or self.dataset, owner, serial)
            policy.check()
            policy = for_broker(policy, broker)
        except ValidationError as error:
            raise problems_of(error, self.tree)[0].error(self.name, self.line) from None
        except FormatError as error:
            raise UsageError(f"{self.name}: {error.reason}", code="usage.policy") from None
        return policy

    def problems(self) -> list[Problem]:
        """Return all that is wrong with it, none where it can be signed."""
        try:
            self._policy(self.dataset or "0" * 32, "a" * 52, 1).check()
        except ValidationError as error:
            return problems_of(error, self.tree)
        except _PlacedError as error:
            return [error.problem]
        except (UsageError, FormatError) as error:
            return [Problem(place=(), words=error.reason.rstrip("."), advice=error.next_step)]
        return []

    def _policy(self, dataset_id: str | None, owner: str, serial: int | None) -> Policy:
        tree = _Resolver(self).policy()
        given = serial if serial is not None else tree.get("serial", int(datetime.now(tz=UTC).timestamp()))
        # What is missing is left out, so that the model says so.
        known = {"dataset_id": dataset_id} if dataset_id is not None else {}
        try:
            return Policy.from_tree({**tree, **known, "owner": owner, "serial": given})
        except (ValueError, TypeError) as error:
            if isinstance(error, ValidationError):
                raise
            raise UsageError(f"{self.name} holds a value that JSON does not have: {error}.", code="usage.policy") from None


def read_policy(path: Path) -> Written:
    """Return the policy that a YAML file holds, unchecked."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"There is no file {path}.", next_step="`securemllib policy new` writes one.", code="usage.missing_file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no UTF-8 text.", code="usage.policy") from None
    tree, lines = read_yaml_lines(text)
    return Written(name=path.name, tree=tree, lines=lines, directory=path.parent)


def load_policy(path: Path, *, dataset_id: str | None, owner: str, serial: int | None = None, broker: str | None = None) -> Policy:
    """Return the policy of a YAML file, as `Written.resolve` does."""
    return read_policy(path).resolve(dataset_id=dataset_id, owner=owner, serial=serial, broker=broker)


def for_broker(policy: Policy, broker: str | None) -> Policy:
    """Return a policy for the broker of that fingerprint, filled in where none is named; `UsageError` where another is."""
    if broker is None or policy.broker == broker:
        return policy
    if policy.broker is not None:
        raise UsageError(
            f"The policy is for the broker {policy.broker}, not for {broker}.", next_step="Sign one for this broker.", code="usage.policy"
        )
    return replace(policy, broker=broker)


def load_appraisals(path: Path) -> dict[str, AppraisalPolicy]:
    """Return what a policy's YAML file says of enclaves, by name; its rules are not read, so no ``.pub`` file is needed."""
    written = read_policy(path)
    kept = {"profile", "enclaves", "allow_insecure", "insecure_risk", "insecure_roots"}
    tree = {field: value for field, value in written.tree.items() if field in kept} if isinstance(written.tree, dict) else written.tree
    bare = Written(name=written.name, tree={**tree, "rules": []}, lines=written.lines, directory=written.directory)
    return bare.resolve(dataset_id="0" * 32, owner="a" * 52, serial=1).appraisals()


def policy_from_text(text: str, *, dataset_id: str, owner: str, serial: int | None = None, directory: Path | None = None) -> Policy:
    """Return the policy of a YAML text, as `Written.resolve` does."""
    tree, lines = read_yaml_lines(text)
    written = Written(name="the policy", tree=tree, lines=lines, directory=directory or Path())
    return written.resolve(dataset_id=dataset_id, owner=owner, serial=serial)


class _PlacedError(UsageError):
    """The error of one problem, which `Written.problems` lists with its place."""

    problem: Problem


class _Resolver:
    """Replaces what only people write: names, ``.pub`` files, shorthands and dates. It leaves what it does not know to the model."""

    def __init__(self, written: Written) -> None:
        self._written = written
        people = written.tree.get("people", {}) if isinstance(written.tree, dict) else {}
        self._people: dict[Any, Any] = people if isinstance(people, dict) else {}

    def policy(self) -> dict[str, Any]:
        tree = {field: value for field, value in self._written.tree.items() if field not in _OWN_FIELDS}
        if "broker" in tree:
            tree["broker"] = self.fingerprint(tree["broker"], ("broker",))
        if "expires" in tree:
            tree["expires"] = self.time(tree["expires"], ("expires",))
        if isinstance(tree.get("rules"), list):
            tree["rules"] = [self.rule(rule, ("rules", position)) for position, rule in enumerate(tree["rules"])]
        if isinstance(tree.get("approvals"), dict):
            tree["approvals"] = {name: self.quorum(quorum, ("approvals", name)) for name, quorum in tree["approvals"].items()}
        return tree

    def rule(self, tree: Any, place: Path_) -> Any:
        if not isinstance(tree, dict):
            return tree
        fields: dict[str, Callable[[Any, Path_], Any]] = {
            "analysts": self.fingerprints,
            "operations": self.operations,
            "columns": self.columns,
            "outputs": self.outputs,
            "not_before": self.time,
            "not_after": self.time,
        }
        return {name: fields[name](value, (*place, name)) if name in fields else value for name, value in tree.items()}

    def quorum(self, tree: Any, place: Path_) -> Any:
        if not isinstance(tree, dict) or not isinstance(tree.get("approvers"), list):
            return tree
        return {**tree, "approvers": [self.identity(person, (*place, "approvers")) for person in tree["approvers"]]}

    def operations(self, tree: Any, place: Path_) -> Any:
        if tree == "all":
            return {ANY: {}}
        if isinstance(tree, dict) and ANY in tree:
            raise self._wrong(place, "says `all` for every operation", None)
        return {name: {} if bounds is None else bounds for name, bounds in tree.items()} if isinstance(tree, dict) else tree

    def columns(self, tree: Any, _: Path_) -> Any:
        return [ANY] if tree == "all" else tree

    def outputs(self, tree: Any, place: Path_) -> Any:
        return {kind: self.output(value, (*place, kind)) for kind, value in tree.items()} if isinstance(tree, dict) else tree

    def output(self, tree: Any, place: Path_) -> Any:
        if isinstance(tree, list):
            return {"recipients": self.fingerprints(tree, place)}
        if not isinstance(tree, dict):
            return tree
        fields: dict[str, Callable[[Any, Path_], Any]] = {"recipients": self.fingerprints, "columns": self.columns}
        return {name: fields[name](value, (*place, name)) if name in fields else value for name, value in tree.items()}

    def fingerprints(self, tree: Any, place: Path_) -> Any:
        return [self.fingerprint(person, (*place, index)) for index, person in enumerate(tree)] if isinstance(tree, list) else tree

    def fingerprint(self, person: Any, place: Path_) -> Any:
        text = self._people.get(person, person) if isinstance(person, str) else person
        if not isinstance(text, str) or FINGERPRINT.fullmatch(text):
            return text
        if text.endswith(".pub"):
            return self._public(text, place).fingerprint
        raise self._wrong(place, "holds fingerprints (52 characters), paths of .pub files and names from `people`", text)

    def identity(self, person: Any, place: Path_) -> Any:
        text = self._people.get(person, person) if isinstance(person, str) else person
        if not isinstance(text, str):
            return text
        if not text.endswith(".pub"):
            raise self._wrong(place, "holds paths of .pub files: an approver's key belongs into the policy", text)
        return b64encode(self._public(text, place).to_bytes()).decode()

    def _public(self, text: str, place: Path_) -> PublicIdentity:
        path = self._written.directory / text
        try:
            return load_public(path)
        except UsageError:
            advice = f"Put the .pub file that they give you beside {self._written.name}, or write their fingerprint."
            raise self._error(Problem(place=place, words=f"names {path}, which is not there", advice=advice)) from None

    def time(self, value: Any, place: Path_) -> Any:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise self._wrong(place, "is an ISO 8601 date or time", value) from None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if not isinstance(value, datetime):
            return value
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z")

    def _wrong(self, place: Path_, rule: str, found: str | None) -> UsageError:
        return self._error(Problem(place=place, words=rule if found is None else f"{rule}, not {found!r}"))

    def _error(self, problem: Problem) -> "_PlacedError":
        told = problem.error(self._written.name, self._written.line)
        error = _PlacedError(told.reason, next_step=told.next_step, code=told.error_code)
        error.problem = problem
        return error
