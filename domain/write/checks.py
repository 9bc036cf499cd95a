"""Collects what the checks of a command find, so that one refused check hides no other.

A command makes every check that its input allows, each in an `attempt`, and then refuses the request with all issues at once.
A check that needs a field which cannot be read (partial.py) is left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from domain.declare.errors import Conflict, DomainError, Invalid, Issue, Stale, make_invalid
from domain.write.partial import Unreadable, needs_unreadable

REFUSALS = (Stale, Invalid, Conflict)
"""What checks raise, in the order in which one of them is answered where there are several: what was read is out of date, a
value is wrong, or stored data forbid the change now.
"""


class Checks:
    """The issues of one request."""

    def __init__(self) -> None:
        self._errors: list[DomainError] = []
        self._is_complete = True

    def add(self, *issues: Issue) -> None:
        """Adds issues of values that are wrong."""
        if issues:
            self._errors.append(make_invalid([*issues]))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Makes a check in a block: what it raises is kept, and the command goes on after the block."""
        try:
            yield
        except REFUSALS as error:
            self._errors.append(error)
        except AttributeError as error:
            if not needs_unreadable(error):
                raise
            self._is_complete = False

    def refuse_if_any(self) -> None:
        """Raises one error with every issue that was found; Unreadable where there is none and a check was left out, since
        nothing may be written then.
        """
        if self._errors or not self._is_complete:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Does the same where the command gets no further."""
        issues = merge_issues([], *self._errors)
        for kind in REFUSALS:
            first = next((error for error in self._errors if isinstance(error, kind)), None)
            if isinstance(first, Invalid):
                raise make_invalid(issues)
            if first is not None:
                raise kind(first.detail, code=first.code, issues=tuple(issues) if len(self._errors) > 1 else first.issues)
        raise Unreadable


def merge_issues(issues: list[Issue], *errors: DomainError) -> list[Issue]:
    """Returns the issues with those of errors that say more of the request, each place and code once. A conflict without
    issues is one of the whole request.
    """
    found = {(issue.at, issue.code): issue for issue in issues}
    for error in errors:
        if isinstance(error, REFUSALS):
            of_whole = (Issue("", error.code, error.detail),) if isinstance(error, Conflict) else ()
            for issue in error.issues or of_whole:
                found.setdefault((issue.at, issue.code), issue)
    return list(found.values())
