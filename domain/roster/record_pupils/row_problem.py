"""Why a row of a roll may not be written: its keys lead to several pupils, or to one who may be another child."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from domain.roster.pupil_keys import UPN_REPLACED

CONFLICT, MERGE, REPLACED = "pupil-conflict", "pupil-merge-needed", "upn-replaced"
NOT_SOURCE = "not-source"
UPN, BIRTHDAY, FORENAME, SURNAME, SEX = "upn", "dateOfBirth", "forename", "surname", "sex"
LABELS = {UPN: "UPN", BIRTHDAY: "date of birth", FORENAME: "forename", SURNAME: "surname", SEX: "sex"}


def describe_shared_upn(pointer: str, facts: Collection[str]) -> str:
    """Returns the message for a row whose UPN another row of the batch bears too, with other facts."""
    labels = " and ".join(LABELS[fact] for fact in facts)
    return f"{pointer} has the same UPN and another {labels}. One of the two is wrong, and neither was written."


@dataclass(frozen=True)
class RowProblem:
    """Why a row may not be written: the code, the pupils whom its keys lead to, and which facts differ."""

    code: str
    pupil_ids: tuple[UUID, ...] = ()
    facts: tuple[str, ...] = ()

    def describe(self, visible_ids: Collection[UUID]) -> str:
        """Returns the message. Neither an id nor which facts differ is disclosed of a pupil out of the client's reach."""
        names = " and ".join(str(id_) if id_ in visible_ids else "a pupil out of this client's reach" for id_ in self.pupil_ids)
        if self.code == REPLACED:
            return UPN_REPLACED
        if self.code == MERGE:
            return f"The keys of this row belong to {len(self.pupil_ids)} pupils, {names}. Nothing was merged."
        is_visible = {*self.pupil_ids} <= {*visible_ids}
        labels = " and ".join(LABELS[fact] for fact in self.facts)
        differs = f"has another {labels}" if is_visible else "says other things of the child"
        return (
            f"The keys of this row are those of {names}, and it {differs}. Nothing was written. Correct the keys;"
            " or if it is the same child, send the pupil's id with sameChild."
        )
