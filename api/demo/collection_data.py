"""What the demonstration's trust says of what it collects: five answers, one of them a stop."""

from datetime import date, timedelta

from api.demo.school_data import GROUP_UID, WRENLOW, Body

_TENANT: Body = {"trust": {"groupUid": GROUP_UID}}
REVIEW_DAYS = 270
"""Days from the making of the demonstration to those on which to look at a verdict again."""


def make_collection_answers(today: date) -> list[Body]:
    """Returns bodies of `record_collection_answer`. All that is said nowhere is inherited from the windows."""
    decided: Body = {"decidedBy": "Rosalind Hale", "reviewOn": (today + timedelta(REVIEW_DAYS)).isoformat()}
    return [
        {"tenant": _TENANT, "impact": "Teachers judge from lessons: no child sits an extra test.", "verdict": "keep", **decided},
        {"tenant": _TENANT, "windowKind": "KS2", "impact": "Four mornings of tests in May.", "verdict": "keep", **decided},
        {"tenant": _TENANT, "windowKind": "autumn", "audience": "Class teachers and tutors.", "typedSeconds": 15},
        {"tenant": _TENANT, "subject": "writing", "windowKind": "spring", "verdict": "change", **decided},
        {"school": WRENLOW.ref, "subject": "writing", "windowKind": "spring", "verdict": "stop", **decided},
    ]
