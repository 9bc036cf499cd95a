"""Builds the catalogue: the declared resources by name, with the reverse of every link."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from domain.declare.resource import Field, Link, Resource
from domain.declare.value_types import ValueType
from domain.declare.vocabulary import declare_ids


def link_resources(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Returns the resources by name, each with its own links and those declared on other resources.

    Raises ValueError if a link has an undeclared target, or two fields or links of a resource have the same name.
    """
    catalogue = {resource.name: resource for resource in resources}
    links: dict[str, dict[str, Link]] = {name: {} for name in catalogue}

    def add_link(owner: str, name: str, link: Link) -> None:
        if not {owner, link.target} <= catalogue.keys():
            raise ValueError(f"{owner}.{name} links to {link.target}, and one of them is not declared")
        if name in links[owner] or name in catalogue[owner].fields:
            raise ValueError(f"{owner}.{name} is declared twice")
        if not {*link.arguments}.isdisjoint(catalogue[link.target].fields):
            raise ValueError(f"{owner}.{name} has an argument with the name of a field of {link.target}")
        if not {*link.choices} <= {*catalogue[link.target].choices}:
            raise ValueError(f"{owner}.{name} replaces a choice that {link.target} does not have")
        links[owner][name] = link

    for resource in catalogue.values():
        if not {*resource.choices}.isdisjoint(resource.fields):
            raise ValueError(f"{resource.name} has a choice with the name of a field")
        for name, link in resource.links.items():
            add_link(resource.name, name, link)
    for resource in catalogue.values():
        for owner, links_of_owner in resource.links_from_others.items():
            for name, link in links_of_owner.items():
                add_link(owner, name, link)
        for link in resource.links.values():
            if link.reverse is not None:
                swapped = tuple((theirs, mine) for mine, theirs in link.on)
                add_link(
                    link.target,
                    link.reverse,
                    Link(resource.name, swapped, link.reverse_doc, many=True, target_in_reach=link.source_in_reach),
                )
    return {
        name: replace(resource, links=links[name], fields=_declare_ids(catalogue, resource)) for name, resource in catalogue.items()
    }


def _declare_ids(catalogue: Mapping[str, Resource], resource: Resource) -> dict[str, Field]:
    """Returns the fields of a resource, each that is an id with the vocabulary of the ids of its table: its own, or that which
    a link leads to.
    """
    tables: dict[object, Resource] = {
        own: catalogue[link.target] for link in resource.links.values() for own, there in link.on if there.key == "id"
    }
    fields = {}
    for name, field in resource.fields.items():
        named = resource if name == "id" else tables.get(field.expression)
        if field.kind is ValueType.ID and field.filterable and field.vocabulary is None:
            if named is None or named.type_number is None:
                raise ValueError(f"{resource.name}.{name} is an id of no declared table: declare its vocabulary")
            field = replace(field, vocabulary=declare_ids(named.type_number, _write_words(named.name)))
        fields[name] = field
    return fields


def _write_words(name: str) -> str:
    """Returns a name in words, such as planned roll."""
    return re.sub("[A-Z]", lambda letter: f" {letter[0].lower()}", name)
