"""What a request says its reply must be: `response_format`, or one of the `guided_*` fields."""

import json
from typing import Any

from cutaway.core.errors import RequestError
from cutaway.decode.grammar import Constraint
from cutaway.serve.protocol import Generation

_ANY_OBJECT = {"type": "object"}


def constraint_of(body: Generation) -> tuple[str, Constraint] | None:
    """The constraint and the field that it stands in.

    Raises:
        RequestError: there are two.
    """
    wanted = body.response_format
    schema: Any = None
    field = "response_format"
    if wanted and wanted.json_schema:
        schema, field = wanted.json_schema.wanted, "response_format.json_schema.schema"
    elif wanted and wanted.type == "json_object":
        schema = _ANY_OBJECT
    given = {
        field: None if schema is None else Constraint(kind="json_schema", source=json.dumps(schema)),
        "guided_json": None
        if body.guided_json is None
        else Constraint(kind="json_schema", source=json.dumps(body.guided_json)),
        "guided_regex": None if body.guided_regex is None else Constraint(kind="regex", source=body.guided_regex),
        "guided_choice": None
        if body.guided_choice is None
        else Constraint(kind="choice", source=json.dumps(body.guided_choice)),
        "guided_grammar": None if body.guided_grammar is None else Constraint(kind="lark", source=body.guided_grammar),
    }
    found = [(name, constraint) for name, constraint in given.items() if constraint]
    if len(found) > 1:
        raise RequestError(f"does not go with {found[0][0]}", field=found[1][0])
    return found[0] if found else None
