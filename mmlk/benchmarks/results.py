"""Result files: checked against ``schema.json``, written whole or not at all."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from mmlk.files import write_whole

SCHEMA = Path(__file__).with_name('schema.json')

_TYPES = {
    'object': dict,
    'array': list,
    'string': str,
    'boolean': bool,
    'null': type(None),
    'integer': int,
    'number': (int, float),
}
#: What this checker understands of JSON Schema (draft 2020-12); another keyword in the schema is an error, so that
#: nothing in it is silently not checked.
_ANNOTATIONS = {'$schema', '$id', '$defs', 'title', 'description'}
_KEYWORDS = {
    '$ref',
    'additionalProperties',
    'const',
    'enum',
    'exclusiveMinimum',
    'items',
    'minItems',
    'minimum',
    'oneOf',
    'pattern',
    'properties',
    'required',
    'type',
}


def write_results(results: dict, path: str | Path) -> Path:
    """Check results and write them as JSON; the file appears only when it is complete.

    Raises:
        ValueError: They do not match the schema; the message lists what does not.
    """
    errors = find_errors(results)
    if errors:
        raise ValueError('the results do not match the schema: ' + '; '.join(errors[:5]))
    target = Path(path)
    write_whole(target, json.dumps(results, indent=1, allow_nan=False) + '\n')
    return target


def find_errors(value: Any, schema: dict | None = None) -> list[str]:
    """What in a result file's content does not match the schema; empty if it is valid.

    Args:
        value: Parsed JSON.
        schema: JSON Schema; ``None`` takes that of the result files.
    """
    root = json.loads(SCHEMA.read_text()) if schema is None else schema
    return _check(value, root, root, '$')


def _check(value: Any, schema: dict, root: dict, where: str) -> list[str]:
    unknown = schema.keys() - _KEYWORDS - _ANNOTATIONS
    if unknown:
        raise ValueError(f'the schema uses {sorted(unknown)}, which this checker does not know')
    if '$ref' in schema:
        return _check(value, _resolve(schema['$ref'], root), root, where)
    if 'oneOf' in schema:
        # The nearest alternative says what is wrong.
        found = [_check(value, alternative, root, where) for alternative in schema['oneOf']]
        if sum(not errors for errors in found) > 1:
            return [f'{where} matches more than one alternative']
        return min(found, key=len)
    errors = _check_value(value, schema, where)
    if errors:
        return errors
    if isinstance(value, dict):
        errors += _check_object(value, schema, root, where)
    if isinstance(value, list):
        if len(value) < schema.get('minItems', 0):
            errors.append(f'{where} has {len(value)} items, expected {schema["minItems"]} or more')
        for index, item in enumerate(value):
            errors += _check(item, schema.get('items', {}), root, f'{where}[{index}]')
    return errors


def _check_value(value: Any, schema: dict, where: str) -> list[str]:
    expected = schema.get('type')
    if expected is not None:
        names = [expected] if isinstance(expected, str) else expected
        if not any(_is_a(value, name) for name in names):
            return [f'{where} must be {" or ".join(names)}, got {value!r:.60}']
    if 'const' in schema and value != schema['const']:
        return [f'{where} must be {schema["const"]!r}, got {value!r:.60}']
    if 'enum' in schema and value not in schema['enum']:
        return [f'{where} must be one of {schema["enum"]}, got {value!r:.60}']
    if isinstance(value, str) and 'pattern' in schema and not re.search(schema['pattern'], value):
        return [f'{where} must match {schema["pattern"]}, got {value!r:.60}']
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 'minimum' in schema and value < schema['minimum']:
            return [f'{where} must be {schema["minimum"]} or more, got {value}']
        if 'exclusiveMinimum' in schema and value <= schema['exclusiveMinimum']:
            return [f'{where} must be more than {schema["exclusiveMinimum"]}, got {value}']
    return []


def _check_object(value: dict, schema: dict, root: dict, where: str) -> list[str]:
    errors = [f'{where} lacks {name!r}' for name in schema.get('required', []) if name not in value]
    properties = schema.get('properties', {})
    rest = schema.get('additionalProperties', True)
    for name, item in value.items():
        if name in properties:
            errors += _check(item, properties[name], root, f'{where}.{name}')
        elif rest is False:
            errors.append(f'{where} has {name!r}, which the schema does not know')
        elif isinstance(rest, dict):
            errors += _check(item, rest, root, f'{where}.{name}')
    return errors


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == 'boolean'
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _TYPES[name])


def _resolve(reference: str, root: dict) -> dict:
    schema = root
    for part in reference.removeprefix('#/').split('/'):
        schema = schema[part]
    return schema
