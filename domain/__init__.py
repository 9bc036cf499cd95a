"""The catalogue: everything that can be read and every command, in the order the documentation shows them; and what expires."""

from domain.assessment.judgements import JUDGEMENTS, record_judgements
from domain.assessment.schemes import GRADES, SCHEMES, create_scheme
from domain.assessment.subjects import SUBJECTS
from domain.assessment.targets import TARGETS, record_targets
from domain.assessment.windows import WINDOWS, close_window, create_window, open_window, reopen_window
from domain.consent import clients
from domain.engine import command as commands
from domain.engine.resource import link_up
from domain.roster.enrolments import ENROLMENTS
from domain.roster.pupils import PUPILS
from domain.roster.roll import record_pupils
from domain.roster.schools import MEMBERSHIPS, SCHOOLS
from domain.roster.trusts import TRUSTS

RESOURCES = link_up([TRUSTS, SCHOOLS, MEMBERSHIPS, PUPILS, ENROLMENTS, SUBJECTS, SCHEMES, GRADES, WINDOWS, JUDGEMENTS, TARGETS])

COMMANDS = {
    command.name: command
    for command in (
        record_pupils,
        record_judgements,
        record_targets,
        create_scheme,
        create_window,
        open_window,
        close_window,
        reopen_window,
    )
}

EXPIRING = (*commands.EXPIRING, *clients.EXPIRING)
