"""The commands about grants: python -m api grant."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Annotated, Any, TypeVar, get_args
from uuid import UUID

import typer
from rich.markup import escape

from api.commands.console import console, fail, fail_with_faults, format_count, run_as_operator
from domain.clients import clients, grants
from domain.clients.access_history import Change, list_grant_changes
from domain.declare.errors import NotFound
from domain.declare.ids import parse_id
from domain.support.clock import ENGLAND, find_end

grant_commands = typer.Typer(
    no_args_is_help=True, help="What a client may do, and where: one grant added, narrowed, extended, ended or confirmed."
)
NO_EXPIRY = "Its grants do not expire, since no --expires was given."
AS_AGREED, OPERATOR = "as agreed", "operator"
"""The purpose and the approver of a grant for which none is named."""
T = TypeVar("T")

GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id, as `grant list` shows it.")]
Purpose = Annotated[str, typer.Option(help="What the data is for, as the school approved it.")]
ApprovedBy = Annotated[str, typer.Option(help="Who approved it.")]
Agreement = Annotated[str | None, typer.Option("--agreement-version", help="The version of the agreement that it rests on.")]
Expires = Annotated[
    str | None,
    typer.Option(
        help="Its last day (2027-08-31), or the instant when it expires (2027-08-31T18:00:00Z).", show_default="it does not expire"
    ),
]
NewExpiry = Annotated[str | None, typer.Option(help="Its new last day (2027-08-31), or the instant (2027-08-31T18:00:00Z).")]
KindOfUse = Annotated[str | None, typer.Option(help=f"What is done with the data: {', '.join(grants.KINDS)}.")]


def read_expiry(text: str | None) -> datetime | None:
    """Returns when a grant expires: the end of a day in England, or an instant. Raises ValueError for another text."""
    if text is None:
        return None
    try:
        if len(text) == len("2027-08-31"):
            return find_end(date.fromisoformat(text))
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{text} is no day, such as 2027-08-31, and no instant, such as 2027-08-31T18:00:00Z.") from None
    return instant


def read_kind(text: str | None) -> grants.Kind | None:
    """Returns a kind of use. Raises ValueError for another text."""
    kinds: tuple[grants.Kind, ...] = get_args(grants.Kind)
    if text is None or text in kinds:
        return next((kind for kind in kinds if kind == text), None)
    raise ValueError(f"--kind is one of {', '.join(kinds)}.")


def read_grants(
    texts: Sequence[str], purpose: str, approved_by: str, agreement: str | None, expires: str | None, kind: str | None
) -> tuple[list[grants.GrantRequest], dict[str, Any]]:
    """Returns grants to add, and their terms as `approve_grant` takes them. Exits with everything that is wrong with them."""
    faults: list[str] = []

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ValueError as problem:
            faults.append(str(problem))
            return None

    requests = [attempt(lambda text=text: grants.parse_grant(text)) for text in texts]  # type: ignore[misc]
    terms = {
        "purpose": purpose,
        "approved_by": approved_by,
        "agreement_version": agreement,
        "expires_at": attempt(lambda: read_expiry(expires)),
        "kind": attempt(lambda: read_kind(kind)),
    }
    fail_with_faults(faults)
    return [request for request in requests if request is not None], terms


def warn_of_defaults(purpose: str, approved_by: str) -> None:
    """Says what a grant tells of its approval where neither who approved it nor for what was named."""
    if (purpose, approved_by) == (AS_AGREED, OPERATOR):
        sentence = "Neither --approved-by nor --purpose was given: who reads the grant sees 'approved by operator: as agreed'."
        console.print(sentence, soft_wrap=True)


async def find_client(connection: Any, id_or_name: str) -> clients.Client:
    """Returns a client. Exits with an error where there is none."""
    return await clients.find_client(connection, id_or_name) or fail(
        f"There is no client {escape(id_or_name)}. `client list` shows them."
    )


async def add_grant(connection: Any, client_id: UUID, request: grants.GrantRequest, terms: dict[str, Any]) -> UUID:
    """Adds a grant, with a warning where scopes mean nothing on its target."""
    if useless := grants.find_useless_scopes(request):
        message = f"the installation is the register, clients and operations: {', '.join(useless)} gives nothing there."
        console.print(f"[yellow]warning:[/yellow] {message}", soft_wrap=True)
    return await grants.approve_grant(connection, client_id, request, **terms)


@grant_commands.command("add")
def add(
    client: Annotated[str, typer.Argument(help="The client, by its id or its name.")],
    grant: Annotated[
        str,
        typer.Argument(
            metavar="TARGET=SCOPES",
            help="school:URN, trust:UID, localAuthority:CODE, schools, trusts or installation; scopes with commas, or all.",
        ),
    ],
    purpose: Purpose = AS_AGREED,
    approved_by: ApprovedBy = OPERATOR,
    agreement: Agreement = None,
    expires: Expires = None,
    kind: KindOfUse = None,
) -> None:
    """Add a grant to a client. Those that it has stay."""
    (request,), terms = read_grants([grant], purpose, approved_by, agreement, expires, kind)

    async def work(connection: Any) -> tuple[UUID, str, int]:
        found = await find_client(connection, client)
        grant_id = await add_grant(connection, found.id, request, terms)
        return grant_id, found.name, await clients.count_schools_in_reach(connection, found.id)

    grant_id, name, schools = run_as_operator(work)
    console.print(f"grant_id       {grant_id}")
    console.print(f"{escape(name)} reaches {format_count(schools, 'school')}.", soft_wrap=True)
    if expires is None:
        console.print("The grant does not expire, since no --expires was given.")
    warn_of_defaults(purpose, approved_by)


@grant_commands.command("list")
def list_all(
    client: Annotated[str | None, typer.Argument(help="Those of this client, by its id or its name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    unconfirmed: Annotated[
        bool, typer.Option("--unconfirmed", help="Only those whose giver has ended, and which end unless they are confirmed.")
    ] = False,
) -> None:
    """List grants, each with its id."""

    async def work(connection: Any) -> list[tuple[str, grants.Grant]]:
        names = {each.id: each.name for each in await clients.list_clients(connection)}
        if unconfirmed:
            found = await grants.list_unconfirmed(connection)
        elif client is None:
            found = [grant for client_id in names for grant in await grants.list_grants(connection, client_id)]
        else:
            found = await grants.list_grants(connection, (await find_client(connection, client)).id)
        return [(names[grant.client_id], grant) for grant in found if everything or not grants.has_ended(grant)]

    for name, grant in run_as_operator(work):
        console.print(f"{escape(name)}  {describe_grant(grant)}", soft_wrap=True)


@grant_commands.command("history")
def show_history(grant: GrantId) -> None:
    """Show who gave, narrowed, extended, ended and confirmed a grant, and when."""

    async def work(connection: Any) -> list[Change]:
        with _naming(grant) as grant_id:
            return await list_grant_changes(connection, grant_id)

    for change in run_as_operator(work):
        console.print(describe_change(change), soft_wrap=True)


@grant_commands.command("narrow")
def narrow(
    grant: GrantId,
    scopes: Annotated[str | None, typer.Option(help="The scopes that it keeps, with commas.")] = None,
    expires: NewExpiry = None,
) -> None:
    """Leave a grant fewer scopes, or let it expire sooner. At once, also for tokens that are out."""
    if scopes is None and expires is None:
        fail("Say which --scopes it keeps, or when it --expires.")

    async def work(connection: Any) -> tuple[Sequence[UUID], str]:
        kept, wrong = grants.read_scopes(scopes or "")
        if wrong:
            raise ValueError("; ".join(wrong))
        with _naming(grant) as grant_id:
            left = await grants.narrow_grant(connection, grant_id, None if scopes is None else kept, read_expiry(expires))
            return left, await _describe_now(connection, grant_id)

    unconfirmed, now = run_as_operator(work)
    console.print(f"The grant is narrowed.\n{now}", soft_wrap=True)
    print_unconfirmed(unconfirmed)


@grant_commands.command("extend")
def extend(
    grant: GrantId,
    expires: NewExpiry = None,
    never: Annotated[bool, typer.Option("--never", help="It does not expire.")] = False,
) -> None:
    """Let a grant that is in force expire later."""
    if (expires is None) != never:
        fail("Say when it --expires, or --never.")

    async def work(connection: Any) -> str:
        with _naming(grant) as grant_id:
            await grants.extend_grant(connection, grant_id, read_expiry(expires))
            return await _describe_now(connection, grant_id)

    console.print(f"The grant is extended.\n{run_as_operator(work)}", soft_wrap=True)


@grant_commands.command("end")
def end(grant: GrantId) -> None:
    """End one grant, at once, also for tokens that are out. The client's other grants stay."""

    async def work(connection: Any) -> tuple[Sequence[UUID], str]:
        with _naming(grant) as grant_id:
            left = await grants.revoke_grant(connection, grant_id)
            return left, await _describe_now(connection, grant_id)

    unconfirmed, now = run_as_operator(work)
    console.print(f"The grant has ended.\n{now}", soft_wrap=True)
    print_unconfirmed(unconfirmed)


@grant_commands.command("confirm")
def confirm(grant: GrantId) -> None:
    """Keep a grant whose giver has ended. It expires when it was approved to."""

    async def work(connection: Any) -> str:
        with _naming(grant) as grant_id:
            await grants.confirm_grant(connection, grant_id)
            return await _describe_now(connection, grant_id)

    console.print(f"The grant is confirmed.\n{run_as_operator(work)}", soft_wrap=True)


async def _describe_now(connection: Any, grant_id: UUID) -> str:
    """Returns a grant as a line, and what its client still has as another: a second grant may give what this one gave."""
    grant = await grants.read_grant(connection, grant_id)
    client = await find_client(connection, str(grant.client_id))
    others = sum(not grants.has_ended(each) for each in await grants.list_grants(connection, client.id))
    schools = await clients.count_schools_in_reach(connection, client.id)
    has = f"{escape(client.name)} has {format_count(others, 'grant')} in all and reaches {format_count(schools, 'school')}."
    return f"{describe_grant(grant)}\n{has}"


def describe_end(expires_at: datetime) -> str:
    """Returns when something expires as `--expires` takes it: after its last day in England, or at an instant there."""
    there = expires_at.astimezone(ENGLAND)
    last = there.date() - timedelta(days=1)
    return f"until the end of {last}" if expires_at == find_end(last) else f"until {there:%Y-%m-%d %H:%M %Z}"


def describe_change(change: Change) -> str:
    """Returns a change of a grant or client as a line."""
    who = "the command line" if change.client is None else escape(change.client)
    line = f"{change.changed_at.astimezone(ENGLAND):%Y-%m-%d %H:%M %Z}  {change.outcome} by {who}"
    if change.scopes is None:
        return line
    end = "for ever" if change.expires_at is None else describe_end(change.expires_at)
    return f"{line}  {','.join(change.scopes)}  {end}"


@contextmanager
def _naming(text: str) -> Iterator[UUID]:
    """Yields the id of a grant. Exits with an error where it is none, and raises ValueError where the block finds no such grant."""
    try:
        yield parse_id(text) or fail(f"{escape(text)} is no id of a grant. `grant list` shows them.")
    except NotFound:
        raise ValueError(f"There is no grant {text}. `grant list` shows them.") from None


def print_unconfirmed(grant_ids: Sequence[UUID]) -> None:
    """Prints the grants that end since the client that gave them holds them no more."""
    if grant_ids:
        line = (
            f"It gave {format_count(len(grant_ids), 'grant')}, which will end in 30 days unless confirmed (`grant confirm GRANT`):"
        )
        console.print(line, soft_wrap=True)
    for grant_id in grant_ids:
        console.print(f"    {grant_id}")


def describe_grant(grant: grants.Grant) -> str:
    """Returns a grant as a line of a list."""
    dates = [
        f"since {grant.starts_at:%Y-%m-%d}",
        describe_end(grant.expires_at) if grant.expires_at else "",
        f"ended {grant.revoked_at:%Y-%m-%d}" if grant.revoked_at else "",
        "to be confirmed" if grant.confirm_by else "",
    ]
    kind = f"{grant.kind}, " if grant.kind else ""
    version = f" (agreement {grant.agreement_version})" if grant.agreement_version else ""
    said = escape(f"approved by {grant.approved_by}: {kind}{grant.purpose}{version}")
    return f"{grant.id}  {grant.target}={','.join(grant.scopes)}  {said}  {' '.join(filter(None, dates))}"
