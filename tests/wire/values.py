"""Every record class of the wire, and a Hypothesis strategy for each, made from its annotations."""

import importlib
import pkgutil
import types
from dataclasses import fields, replace
from enum import StrEnum
from functools import cache
from typing import Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

import securemllib.wire
from securemllib.wire.attestation import Challenge
from securemllib.wire.companion import Companion, CompanionFile, EncodedColumn, EncodingName
from securemllib.wire.dataset import ClearPart, Column, DatasetRef, KeptPart, Manifest, ManifestBody, Part
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import RELEASE_OPERATION, JobSpecification, OutputKind
from securemllib.wire.plan import ModelRef, Named, Parts, Plan, RandomSplit
from securemllib.wire.query import Field, Form, ResultHeader
from securemllib.wire.record import Record
from securemllib.wire.result import SealedModel
from securemllib.wire.signed import Signed

TEXTS = st.text(max_size=8)
SIMPLE = {
    bytes: st.binary(max_size=12),
    str: TEXTS,
    int: st.integers(-(2**64), 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}
VALUES = st.recursive(
    st.one_of(*SIMPLE.values()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def all_records():
    """Return every record class of the wire package, sorted by name."""
    found = set()
    for module in pkgutil.iter_modules(securemllib.wire.__path__, "securemllib.wire."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Record) and hasattr(value, "TYPE"):
                found.add(value)
    return sorted(found, key=lambda cls: cls.TYPE)


def exactly(length):
    """Return bytes of one length."""
    return st.binary(min_size=length, max_size=length)


POSITIVE = st.integers(1, 2**40)
# Fields whose domain the annotation alone does not say.
DOMAINS = {
    PublicIdentity: {"verification_key": exactly(32), "recipient_key": exactly(1).map(lambda byte: byte * 1216)},
    Challenge: {"nonce": exactly(32)},
    Signed: {"signature": exactly(64)},
    ClearPart: {"file": st.from_regex(r"[a-z][a-z0-9.\-]{0,8}", fullmatch=True)},
    CompanionFile: {"file": st.from_regex(r"[a-z][a-z0-9.\-]{0,8}", fullmatch=True)},
    SealedModel: {"pieces": st.integers(0, 2**20)},
    JobSpecification: {
        "nonce": exactly(16),
        "dtype": st.sampled_from(["float32", "float64"]),
        "shares": st.integers(1, 1000),
        "checkpoint_interval": POSITIVE,
    },
}


def _bodies():
    parts = st.lists(of(Part) | of(KeptPart), max_size=3).map(
        lambda parts: tuple(replace(part, ordinal=ordinal) for ordinal, part in enumerate(parts))
    )
    columns = st.lists(of(Column), max_size=3, unique_by=lambda column: column.name).map(tuple)
    return st.builds(ManifestBody, parts=parts, columns=columns, brokers=st.lists(st.text(max_size=4), max_size=2).map(tuple))


def _manifests():
    plain = _fields(Manifest)
    first = st.builds(Manifest, **{**plain, "version": st.just(1), "previous": st.just(b"")})
    later = st.builds(Manifest, **{**plain, "version": st.integers(2, 2**40), "previous": exactly(32)})
    return first | later


def _splits():
    weights = st.lists(st.floats(min_value=0, exclude_min=True, allow_infinity=False), min_size=1, max_size=4)
    return weights.flatmap(
        lambda given: st.builds(
            RandomSplit,
            weights=st.just(tuple(given)),
            kept=st.sets(st.integers(0, len(given) - 1), min_size=1).map(sorted).map(tuple),
            seed=st.integers(-(2**63), 2**63),
        )
    )


def _parts():
    return st.tuples(st.integers(0, 2**20), st.integers(1, 2**20)).map(lambda drawn: Parts(first=drawn[0], end=drawn[0] + drawn[1]))


def _plans():
    plain = _fields(Plan)
    steps = st.tuples(st.lists(of(Parts), max_size=1), plain["steps"]).map(
        lambda drawn: (*drawn[0], *(step for step in drawn[1] if not isinstance(step, Parts)))
    )
    return st.builds(Plan, **{**plain, "steps": steps})


def _companions():
    filed = {EncodingName.ORDER: "dictionaries", EncodingName.HOMOMORPHIC: "ciphertexts"}

    def whole(drawn):
        """Return a companion whose columns have names of their own, and just the files that they need."""
        companion, columns, file = drawn
        named = tuple(replace(column, column=f"c{number}", stored=(f"s{number}",)) for number, column in enumerate(columns))
        files = {name: {column.column: file for column in named if column.encoding is encoding} for encoding, name in filed.items()}
        return replace(companion, columns=named, **files)

    bare = {**_fields(Companion), "columns": st.just(()), "dictionaries": st.just({}), "ciphertexts": st.just({})}
    return st.tuples(st.builds(Companion, **bare), st.lists(of(EncodedColumn), max_size=2), of(CompanionFile)).map(whole)


def _result_fields():
    plain = _fields(Field)
    number = {**plain, "form": st.just(Form.NUMBER), "dataset": st.none(), "rows": st.just(""), "count": st.just("")}
    codes = {**number, "form": st.just(Form.CODES), "dataset": of(DatasetRef)}
    total = {**codes, "form": st.just(Form.SUM), "rows": st.just("r"), "count": st.just("c")}
    return st.one_of(*(st.builds(Field, **kind) for kind in (number, codes, total)))


def _result_headers():
    named = {
        name: st.lists(of(kind), min_size=1, max_size=2, unique_by=lambda item: item.name).map(tuple)
        for name, kind in (("fields", Field), ("outputs", Named))
    }
    return st.builds(ResultHeader, **{**_fields(ResultHeader), **named, "limit": st.none() | st.integers(0, 2**40)})


def _go_together(outputs):
    kinds = {output.kind for output in outputs}
    return OutputKind.SEALED_STATISTICS not in kinds or OutputKind.SEALED_MODEL in kinds


def _jobs():
    plain = _fields(JobSpecification)
    plain["outputs"] = plain["outputs"].filter(_go_together)
    operations = TEXTS.filter(lambda name: name != RELEASE_OPERATION)
    work = st.builds(JobSpecification, **{**plain, "operation": operations, "plan": of(Plan), "model": st.none()})
    release = {**plain, "operation": st.just(RELEASE_OPERATION), "plan": st.none(), "model": of(ModelRef)}
    return work | st.builds(JobSpecification, **release)


SPECIAL = {
    ManifestBody: _bodies,
    Parts: _parts,
    Plan: _plans,
    Manifest: _manifests,
    RandomSplit: _splits,
    JobSpecification: _jobs,
    Companion: _companions,
    Field: _result_fields,
    ResultHeader: _result_headers,
}


@cache
def of(cls):
    """Return the strategy of a record class."""
    return st.deferred(SPECIAL[cls] if cls in SPECIAL else lambda: st.builds(cls, **_fields(cls)))


def _fields(cls):
    hints, domains = get_type_hints(cls), DOMAINS.get(cls, {})
    return {field.name: domains.get(field.name, _hinted(hints[field.name])) for field in fields(cls)}


def _hinted(hint):
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        choices = get_args(hint)
        return VALUES if {bool, int, float, str, bytes, type(None)} <= set(choices) else st.one_of(*map(_hinted, choices))
    if origin is tuple:
        return st.lists(_hinted(get_args(hint)[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXTS, _hinted(get_args(hint)[1]), max_size=2)
    if issubclass(hint, Record):
        return of(hint)
    return st.sampled_from(list(hint)) if issubclass(hint, StrEnum) else SIMPLE[hint]
