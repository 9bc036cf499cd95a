"""schemathesis asks a real server, with a real token, whatever the OpenAPI document allows and some of what it does not: no answer lies outside the
document, and none is a 5xx."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.rest.openapi import document
from api.settings import Settings
from domain.engine import embedded
from tests.conftest import Server, _in_thread, serving
from tests.published import results, whole_pupils

CLIENT = "everything"
import collections, atexit
SEEN=collections.Counter(); METHOD=collections.Counter()
atexit.register(lambda: open("/tmp/seen.txt","w").write("\n".join(f"{k} {v}" for k,v in sorted(SEEN.items()))+str(METHOD)))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
DATA = Path(__file__).parents[1] / "published" / "data"
GIAS = [DATA / name for name in ("establishments.csv", "groups.csv", "group_links.csv")]

pytestmark = pytest.mark.xdist_group("schemathesis")


@pytest.fixture(scope="module")
def server(cluster: embedded.Cluster) -> Iterator[Server]:
    """A server that holds one school's pupils and judgements, and a client that may do everything there."""
    school = whole_pupils.read(DATA / "ks2-2018.csv")[0]
    pupils = whole_pupils.pupils(school) or []
    target = results.controllers(GIAS[0], GIAS[2], [school.urn])[school.urn]
    with serving(_in_thread(cluster)) as server:
        server.command("import", "gias", *map(str, GIAS), "--as-of", "2022-04-20", check=False)
        server.register(CLIENT, f"{target}=all")
        with server.client(CLIENT) as client:
            results.post(client, "/v1/pupils", whole_pupils.roster(school, pupils, results.AS_OF))
            window = results.post(client, "/v1/windows", results.window_of(target))["id"]
            results.post(client, f"/v1/windows/{window}/open", None)
            results.post(client, "/v1/judgements", whole_pupils.judgements(school, pupils))
        yield server


schema = schemathesis.openapi.from_dict(document(Settings.base_url))


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_answer_lies_outside_the_document(case: schemathesis.Case, server: Server) -> None:
    with_token = {"Authorization": f"Bearer {server.token(CLIENT)}"}
    r = case.call_and_validate(base_url=server.base_url, headers=with_token, checks=CHECKS); SEEN[(case.operation.label, r.status_code)] += 1; METHOD[case.method]+=1
