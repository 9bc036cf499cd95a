"""What the text of an aggregate statement depends on."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class AggregateTemplate:
    """The grouping of an aggregate query, and which filters there are. `categories` are names of fields of Categories.

    `by_class` divides the pupils of one school; `as_of` counts judgements as they stood on a day; `breaks_down` counts pupils by grade;
    `filters` are columns of cells; `pools_windows` adds up all windows; `compares_windows` counts an earlier window too; `compares` tells gaps.
    """

    by_school: bool
    by_year_group: bool
    categories: frozenset[str]
    window: bool
    trust: bool
    schools: bool
    by_class: bool = False
    as_of: bool = False
    breaks_down: bool = False
    filters: frozenset[str] = frozenset()
    pools_windows: bool = False
    compares_windows: bool = False
    compares: bool = False

    @property
    def from_totals(self) -> bool:
        return not (self.by_year_group or self.categories or self.by_class or self.filters)

    @property
    def counts_rows(self) -> bool:
        """Whether judgements are counted for the query, since no cell has the figures."""
        return self.by_class or self.as_of

    @property
    def is_internal(self) -> bool:
        """Whether only schools count where the caller holds aggregates:internal."""
        internal = (self.breaks_down, self.pools_windows, self.compares_windows, self.compares, bool(self.filters))
        return self.counts_rows or any(internal)

    @property
    def by_school_alone(self) -> "AggregateTemplate":
        """The same with the pupils of a school undivided."""
        return replace(
            self, by_school=True, by_year_group=False, categories=frozenset(), schools=False, by_class=False, breaks_down=False
        )
