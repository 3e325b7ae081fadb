"""The JSON Schema of policies as people write them: what is signed, with the shorthands that YAML may use."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from securemllib.policy.model import OPERATIONS, Policy, params_of
from securemllib.wire.job import OutputKind

__all__ = ["known_names", "written_schema"]

_IDENTIFIER = "urn:securemllib:schema:policy:v1"
_TIME = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}, {"type": "null"}]}
_PERSON = {
    "type": "string",
    "minLength": 1,
    "description": "A fingerprint (52 characters), the path of a .pub file beside the policy, or a name from `people`.",
}
_BROKER = {
    "anyOf": [_PERSON, {"type": "null"}],
    "default": None,
    "description": "The only broker that may put the policy in force: its fingerprint, its .pub file, or a name from `people`.",
}
_PEOPLE = {"type": "array", "items": _PERSON}
_COLUMNS = {"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string", "minLength": 1}}]}
_OWN_FIELDS = {
    "dataset": {
        "type": "string",
        "pattern": "^[0-9a-f]{32}$",
        "description": "The dataset's id; left out, it is the one that the policy is signed for.",
    },
    "people": {
        "type": "object",
        "additionalProperties": _PERSON,
        "description": "Names for fingerprints and .pub files, used in this policy only.",
    },
}


def written_schema() -> dict[str, Any]:
    """Return the schema that editors complete with and `securemllib policy lint` follows."""
    schema = deepcopy(Policy.json_schema())
    for field in ("dataset_id", "owner"):
        del schema["properties"][field]
    schema["properties"] = {**_OWN_FIELDS, **schema["properties"], "broker": _BROKER, "expires": _TIME}
    schema["required"] = ["enclaves", "rules"]
    rule = schema["$defs"]["Rule"]["properties"]
    rule |= {"analysts": _PEOPLE, "columns": _COLUMNS, "operations": _operations(), "outputs": _outputs()}
    rule |= {"not_before": _TIME, "not_after": _TIME}
    schema["$defs"]["Quorum"]["properties"]["approvers"] = _PEOPLE
    for name in ("OutputRule", "OutputKind"):
        schema["$defs"].pop(name, None)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": _IDENTIFIER, "title": "SecureMLlib policy"}
    return {**schema, **head, "description": "What the owner of a dataset allows. Whatever no rule allows is refused."}


def known_names(schema: dict[str, Any], path: Sequence[str | int]) -> tuple[str, ...]:
    """Return the field names that the schema knows at a place of a policy; none where every name is allowed."""
    found = [schema]
    for part in path:
        found = [inner for node in found for inner in _inside(schema, node, part)]
    properties = (name for node in found for variant in _variants(schema, node) for name in variant.get("properties", {}))
    return tuple(dict.fromkeys(properties))


def _inside(schema: dict[str, Any], node: dict[str, Any], part: str | int) -> list[dict[str, Any]]:
    inner = []
    for variant in _variants(schema, node):
        if isinstance(part, int):
            inner.append(variant.get("items"))
        else:
            inner.append(variant.get("properties", {}).get(part, variant.get("additionalProperties")))
    return [found for found in inner if isinstance(found, dict)]


def _variants(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _variants(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    return [variant for option in node["anyOf"] for variant in _variants(schema, option)] if "anyOf" in node else [node]


def _operations() -> dict[str, Any]:
    bound = {"$ref": "#/$defs/Bound"}
    params = {
        operation: {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": dict.fromkeys(params_of(operation), bound), "additionalProperties": False},
            ]
        }
        for operation in sorted(OPERATIONS)
    }
    return {"anyOf": [{"const": "all"}, {"type": "object", "properties": params, "additionalProperties": False}]}


def _outputs() -> dict[str, Any]:
    rows = {"recipients": _PEOPLE, "columns": _COLUMNS}
    kinds: dict[str, Any] = {kind.value: _PEOPLE for kind in OutputKind}
    kinds[OutputKind.ROWS.value] = {"type": "object", "properties": rows, "required": list(rows), "additionalProperties": False}
    return {"type": "object", "properties": kinds, "additionalProperties": False}
