"""What no program needs any more and is dropped a release later: by its name, the first migration whose program no longer uses it.

A migration may drop what stands here, if it came later, and it then raises `schema_compatibility.oldest_program` to that number (docs/migrations.md).
"""

LATER: dict[str, str] = {
    "relation current_targets": "0016",
    "function match_pupils(in_tenant uuid, source_id uuid, at_schools uuid[], ids uuid[], refs text[], upn_lists text[])": "0031",
    "function read_upns_and_surnames(in_tenant uuid, of_pupils uuid[])": "0031",
    "function list_contributions(in_tenant uuid, of_pupils uuid[], in_windows smallint[], and_before boolean)": "0061",
    "function find_place(in_tenant uuid, on_day date, of_version smallint, of_grade smallint, OUT band_no integer, OUT expected boolean)": "0086",
    "function measure_conjunctions(in_tenant uuid, in_windows smallint[], of_schools uuid[], on_day date, declared_only boolean)": "0087",
    "function window_returns(in_tenant uuid, of_window smallint, listed integer)": "0057",
}
"""Such as {"relation contributions": "0016", "column pupils.nickname": "0017"}; tests/fixtures/system_catalogue.py names things so."""

NEXT: dict[str, str] = {
    "column idempotency.fingerprint": "Servers of programs before 0036 compare requests by it alone, and keys that they stored have nothing else."
    " It is written and compared while such a server or key may be there: a key lasts seven days.",
    "column clients.name": "Programs before 0060 find and register clients by it, and it is unique over all tenants for them (clients_name_key). Since"
    " then display_name is what a client is called.",
}
"""What this release uses for programs before it alone, with the reason. The next release uses it no longer and moves it into LATER."""
