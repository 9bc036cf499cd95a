"""GraphQL documents and URLs of many shapes, each within the limits that a request has."""

import random
from pathlib import Path
from typing import Any

import graphql

import api.graphql
from api.graphql.limits import DocumentLimits

LIMITS = DocumentLimits()
SCHEMA = graphql.build_schema((Path(api.graphql.__path__[0]) / "schema.graphql").read_text())
ROOTS = ("pupils", "schools", "judgements", "targets", "groups", "enrolments", "windows", "memberships")
FIELDS, TOKENS = 360, 1_700
"""The most that a document has: below the limits, for the last connection may go a little over."""
DEEPEST = 9
"""Fields inside one another at which a document goes no deeper; a connection takes two more."""


class _Budget:
    def __init__(self, fields: int) -> None:
        self.fields, self.tokens = fields, TOKENS

    def spend(self, fields: int, tokens: int) -> bool:
        if self.fields < fields or self.tokens < tokens:
            return False
        self.fields -= fields
        self.tokens -= tokens
        return True


def document(draw: random.Random, most: int = FIELDS) -> str:
    """A query of one root whose selection is drawn: scalars, and connections of one row each as deep and wide as the limits allow. Small
    ones are more frequent than large ones."""
    root = draw.choice(ROOTS)
    budget = _Budget(int(20 + (most - 20) * draw.random() ** 2))
    budget.spend(2, 12)
    assert SCHEMA.query_type is not None
    text = _connection(root, SCHEMA.query_type.fields[root].type, 1, budget, draw)
    return f"{{ {text} }}"


def _connection(name: str, type_: Any, depth: int, budget: _Budget, draw: random.Random) -> str:
    nodes = graphql.get_named_type(graphql.get_named_type(type_).fields["nodes"].type)
    return f"{name}(first: 1) {{ nodes {{ {_selection(nodes, depth + 2, budget, draw)} }} }}"


def _selection(type_: Any, depth: int, budget: _Budget, draw: random.Random) -> str:
    scalars = [name for name, field in type_.fields.items() if graphql.is_leaf_type(graphql.get_named_type(field.type))]
    others = [name for name in type_.fields if name not in scalars]
    chosen = draw.sample(scalars, draw.randint(min(3, len(scalars)), len(scalars)))
    parts = [chosen[0], *(name for name in chosen[1:] if budget.spend(1, 1))]
    if depth <= DEEPEST:
        for name in draw.sample(others, draw.randint(min(2, len(others)), len(others))):
            field = type_.fields[name]
            target = graphql.get_named_type(field.type)
            if any(graphql.is_required_argument(argument) for argument in field.args.values()):
                continue
            if not graphql.is_object_type(target) or not budget.spend(3, 12):
                continue
            if "nodes" in target.fields:
                parts.append(_connection(name, field.type, depth, budget, draw))
            else:
                parts.append(f"{name} {{ {_selection(target, depth + 1, budget, draw)} }}")
    return " ".join(parts)


def url(draw: random.Random) -> str:
    """A list with drawn fields, links and order."""
    name = draw.choice(("pupils", "judgements", "schools", "targets"))
    assert SCHEMA.query_type is not None
    type_: Any = graphql.get_named_type(graphql.get_named_type(SCHEMA.query_type.fields[name].type).fields["nodes"].type)
    scalars = [field for field, of in type_.fields.items() if graphql.is_leaf_type(graphql.get_named_type(of.type))]
    chosen = draw.sample(scalars, draw.randint(1, len(scalars)))
    return f"/v1/{name}?first={draw.randint(1, 5)}&fields={','.join(chosen)}"
