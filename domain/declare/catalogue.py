"""The catalogue: declared resources by name, with the reverse of every link."""

from collections.abc import Iterable
from dataclasses import replace

from domain.declare.resource import Link, Resource


def link_resources(resources: Iterable[Resource]) -> dict[str, Resource]:
    """The catalogue by name, with the reverse of every link; raises ValueError where a link leads nowhere or a name is taken."""
    catalogue = {resource.name: resource for resource in resources}
    links: dict[str, dict[str, Link]] = {name: {} for name in catalogue}

    def add(of: str, name: str, link: Link) -> None:
        if not {of, link.target} <= catalogue.keys():
            raise ValueError(f"{of}.{name} links to {link.target}, and one of them is not declared")
        if name in links[of] or name in catalogue[of].fields:
            raise ValueError(f"{of}.{name} is declared twice")
        if not {*link.arguments}.isdisjoint(catalogue[link.target].fields):
            raise ValueError(f"{of}.{name} has an argument with the name of a field of {link.target}")
        links[of][name] = link

    for resource in catalogue.values():
        for name, link in resource.links.items():
            add(resource.name, name, link)
    for resource in catalogue.values():
        for of, given in resource.links_from_others.items():
            for name, link in given.items():
                add(of, name, link)
        for link in resource.links.values():
            if link.reverse is not None:
                swapped = tuple((theirs, mine) for mine, theirs in link.on)
                add(
                    link.target,
                    link.reverse,
                    Link(resource.name, swapped, link.reverse_doc, many=True, target_in_reach=link.source_in_reach),
                )
    return {name: replace(resource, links=links[name]) for name, resource in catalogue.items()}
