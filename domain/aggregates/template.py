"""What the text of an aggregate statement depends on."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class AggregateTemplate:
    """The grouping of an aggregate query, and which filters there are. `categories` are names of fields of Categories.

    `by_class` divides the pupils of one school; `as_of` counts judgements as they stood on a day.
    """

    by_school: bool
    by_year_group: bool
    categories: frozenset[str]
    window: bool
    trust: bool
    schools: bool
    by_class: bool = False
    as_of: bool = False

    @property
    def from_totals(self) -> bool:
        return not (self.by_year_group or self.categories or self.by_class)

    @property
    def counts_rows(self) -> bool:
        """Whether judgements are counted for the query, since no cell has the figures."""
        return self.by_class or self.as_of

    @property
    def by_school_alone(self) -> "AggregateTemplate":
        """The same with the pupils of a school undivided."""
        return replace(self, by_school=True, by_year_group=False, categories=frozenset(), schools=False, by_class=False)
