"""The catalogue: everything that can be read and every command, in the order the documentation shows them; and what expires."""

from domain.assessment.change_window import delete_window, update_window
from domain.assessment.judgements import JUDGEMENTS
from domain.assessment.receipts import RECEIPTS
from domain.assessment.record_judgements import record_judgements
from domain.assessment.returns import RETURNS
from domain.assessment.schemes import GRADES, SCHEMES, create_scheme
from domain.assessment.subjects import SUBJECTS
from domain.assessment.targets import TARGETS, record_targets
from domain.assessment.windows import WINDOWS, close_window, create_window, open_window, reopen_window
from domain.clients import secrets, signing_keys, tokens
from domain.declare.catalogue import link_resources
from domain.roster.change_pupil import update_pupil
from domain.roster.enrolments import ENROLMENTS
from domain.roster.groups import GROUPS, MEMBERS, delete_group, update_group
from domain.roster.pupils import PUPILS
from domain.roster.record_groups import record_groups
from domain.roster.record_pupils.command import record_pupils
from domain.roster.schools import MEMBERSHIPS, SCHOOLS, update_school
from domain.roster.trusts import TRUSTS
from domain.write import idempotency, receipts

RESOURCES = link_resources(
    [
        TRUSTS,
        SCHOOLS,
        MEMBERSHIPS,
        PUPILS,
        ENROLMENTS,
        GROUPS,
        MEMBERS,
        SUBJECTS,
        SCHEMES,
        GRADES,
        WINDOWS,
        JUDGEMENTS,
        TARGETS,
        RECEIPTS,
        RETURNS,
    ]
)

COMMANDS = {
    command.name: command
    for command in (
        record_pupils,
        record_groups,
        update_group,
        delete_group,
        record_judgements,
        record_targets,
        create_scheme,
        create_window,
        open_window,
        close_window,
        reopen_window,
        update_school,
        update_pupil,
        update_window,
        delete_window,
    )
}

CLEANUP = (*idempotency.CLEANUP, *receipts.CLEANUP, *tokens.CLEANUP, *secrets.CLEANUP, *signing_keys.CLEANUP)
"""What `tidy` removes."""
