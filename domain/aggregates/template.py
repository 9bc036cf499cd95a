"""What the text of an aggregate statement depends on."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class AggregateTemplate:
    """The grouping of an aggregate query, and which filters there are. `categories` are names of fields of Categories."""

    by_school: bool
    by_year_group: bool
    categories: frozenset[str]
    window: bool
    trust: bool
    schools: bool

    @property
    def from_totals(self) -> bool:
        return not (self.by_year_group or self.categories)

    @property
    def by_school_alone(self) -> "AggregateTemplate":
        """The same with the pupils of a school undivided."""
        return replace(self, by_school=True, by_year_group=False, categories=frozenset(), schools=False)
