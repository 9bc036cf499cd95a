"""Executor: Strawberry's, for operations most of whose root fields were read before it begins."""

from typing import Any

import msgspec
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Takes the coerced variables and the root fields that were read from the OperationState, and returns JSON that is already encoded as it is.

    Root fields are executed one after another, also in a query, so that one request uses one connection at a time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.variable_values = self.root_value.variables

    def execute_operation(self, serially: bool | None = None) -> Any:
        return super().execute_operation(serially=True)

    def execute_field(self, parent_type: Any, source: Any, field_details_list: Any, path: Path, *rest: Any) -> Any:
        if path.prev is None and (ready := self.root_value.ready.get(path.key)) is not None:
            return ready
        return super().execute_field(parent_type, source, field_details_list, path, *rest)

    def complete_value(self, return_type: Any, field_details_list: Any, info: Any, path: Path, result: Any, *rest: Any) -> Any:
        """Encoded JSON is complete: it holds only the selected fields."""
        if isinstance(result, msgspec.Raw):
            return result
        return super().complete_value(return_type, field_details_list, info, path, result, *rest)
