"""Names by which a request would compare members of staff: refused with the reason wherever rows are chosen, ordered or divided.

Pay and appraisal must not depend on assessment. Who judged is a field for whoever audits (`actor`), by which no list is filtered or sorted and no
figure is divided. A primary class is one teacher's: it divides figures only for a client that reads those of that one school by a grant on it, and
in nothing that travels on from there, such as a file.
"""

from collections.abc import Iterable

from domain.declare.errors import Invalid, Issue

_STAFF = frozenset({"actor", "actors", "teacher", "teachers", "staff", "assessor", "assessors", "lockedby"})
_OF_ONE_TEACHER = frozenset({"class", "classes", "group", "groups"})


def names_staff(name: str, *, divides: bool = False) -> bool:
    """Whether a name, in any case, asks for members of staff. Where it `divides` figures, a class does too."""
    plain = name.lower()
    return plain in _STAFF or (divides and plain in _OF_ONE_TEACHER)


def make_staff_issue(at: str) -> Issue:
    """Returns the issue of a place that names staff."""
    reason = "Results are not compared by teacher: pay and appraisal must not depend on them."
    return Issue(at, "teacher-comparison-not-supported", reason)


def make_class_issue(at: str, reason: str) -> Issue:
    """Returns the issue of a place that divides figures by class where that is refused."""
    return Issue(
        at,
        "teacher-comparison-not-supported",
        f"{reason} A primary class is one teacher's: pay and appraisal must not depend on it.",
    )


def is_staff_issue(issue: Issue) -> bool:
    return issue.code == "teacher-comparison-not-supported"


def refuse_comparison(issues: Iterable[Issue]) -> Invalid:
    """Returns the error of a request that compares by teacher, with everything that is wrong with it."""
    return Invalid("Results are not compared by teacher.", code="teacher-comparison-not-supported", issues=tuple(issues))
