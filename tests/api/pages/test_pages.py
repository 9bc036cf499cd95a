"""/docs and /explorer: all they name is served here and nothing else is asked; in a real browser without the internet, a request is sent from each."""

import base64
import gzip
import http.client
import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest

from api.rest.collection_summaries import MAX_CANDIDATES, MAX_ROWS, MAX_TEXT, MAX_WINDOWS, write_page
from domain.assessment.collection_summary import BudgetWindow, CollectionSummary, SummaryRow
from domain.store import embedded
from tests.fixtures.browser import CHROMIUM, Page, browsing
from tests.fixtures.databases import fresh_database
from tests.fixtures.server import Server, import_register, serving

PAGES = ("/docs", "/explorer")
NAMES = re.compile(r"""(?:href|src)="([^"]+)"|\bfrom "([^"]+)"|url\(([^)]+)\)""")
NAMESPACE = "http://www.w3.org/2000/svg"
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")


def named(url: str) -> dict[str, httpx2.Response]:
    """The answers of a page and of all that it names, by URL. Scalar's file is not searched: it names nothing as it is configured."""
    found: dict[str, httpx2.Response] = {}
    waiting = [url]
    while waiting:
        asked = waiting.pop()
        found[asked] = httpx2.get(asked)
        if not asked.endswith(("scalar.js", "openapi.json")):
            links = (next(filter(None, match.groups())) for match in NAMES.finditer(found[asked].text))
            waiting += {urljoin(asked, link) for link in links} - {*found, *waiting}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_and_all_it_names_is_served_here(page: str, server: Server) -> None:
    found = named(server.base_url + page)
    assert {urlsplit(url).netloc for url in found} == {urlsplit(server.base_url).netloc}
    for url, answer in found.items():
        assert answer.status_code == 200, url
        if "/assets/" in url:
            ending = url.rsplit(".", 1)[1]
            media_type = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[ending]
            assert answer.headers["content-type"].split(";")[0] == media_type
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["x-content-type-options"] == "nosniff"
        if not url.endswith(("scalar.js", "openapi.json", "/problems")):
            assert "://" not in answer.text.replace(NAMESPACE, ""), f"{url} names another host"
    assert any(url.endswith(".js") for url in found)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_lets_the_browser_connect_to_no_other_host(page: str, server: Server) -> None:
    answer = httpx2.get(server.base_url + page)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert {word for sources in policy.values() for word in sources.split()} <= {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert ("'unsafe-inline'" in policy["style-src"]) == (page == "/docs")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_only_read(page: str, server: Server) -> None:
    head, whole = httpx2.head(server.base_url + page), httpx2.get(server.base_url + page)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert httpx2.post(server.base_url + page).status_code == 405


def test_the_start_leads_to_the_pages(server: Server) -> None:
    start = httpx2.get(server.base_url + "/").json()
    assert [start[name] for name in ("docs", "explorer", "problems")] == [
        f"{server.base_url}/{name}" for name in ("docs", "explorer", "problems")
    ]


def test_an_asset_is_the_same_compressed(server: Server) -> None:
    url = next(url for url in named(server.base_url + "/docs") if url.endswith("scalar.js"))
    plain = httpx2.get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with httpx2.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as answer:
        sent = b"".join(answer.iter_raw())
    assert "Accept-Encoding" in answer.headers["vary"]
    assert len(sent) < len(plain.content) / 3
    assert gzip.decompress(sent) == plain.content


def test_nothing_but_an_asset_can_be_asked_for(server: Server) -> None:
    url = next(url for url in named(server.base_url + "/explorer") if url.endswith("explorer.js"))
    folder = urlsplit(url).path.rsplit("/", 1)[0]
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=30)  # sends a path as it is given
    inside = ("__init__.py", "docs.html", "", ".", "..", "../../app.py", "..%2f..%2fapp.py", "%2e%2e/app.py", "..%5capp.py")
    paths = [f"{folder}/{name}" for name in inside] + ["/assets/0000000000000000/explorer.js", "/assets/explorer.js", "/assets/"]
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:1]) == (404, b"{"), path
    connection.request("GET", f"{folder}/%00")
    assert connection.getresponse().status == 400
    connection.close()


# In a browser


@pytest.fixture(scope="module")
def reader(server: Server) -> str:
    import_register(server)
    server.register("reads the pages", "schools=schools:read")
    return "reads the pages"


@pytest.fixture
def page() -> Iterator[Page]:
    with browsing() as opened:
        yield opened


def kept_to_itself(page: Page, server: Server, reader: str) -> None:
    """No other host was asked, the browser refused nothing, and no credential is in a storage, a cookie or an address."""
    assert page.hosts() == {urlsplit(server.base_url).netloc}
    assert page.refused == []
    kept = page.run("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])") + "".join(
        page.asked
    )
    for credential in (*server.secrets[reader], "eyJ"):
        assert credential not in kept


@in_browser
def test_a_request_is_sent_from_the_reference(page: Page, server: Server, reader: str) -> None:
    def labelled(text: str) -> str:
        return f"document.querySelector(`[aria-labelledby='${{[...document.querySelectorAll('label')].find(l => l.innerText === '{text}')?.id}}']`)"

    def click(words: str) -> None:
        button = (
            f"[...document.querySelectorAll('button, a')].find(each => each.innerText.replaceAll('\\n', ' ').startsWith('{words}'))"
        )
        page.wait(f"!!{button}")
        page.run(f"{button}.click()")

    client_id, secret = server.secrets[reader]
    page.open(server.base_url + "/docs")
    page.wait(f"!!{labelled('Client Secret')}")
    page.type(labelled("Client ID"), client_id)
    page.type(labelled("Client Secret"), secret)
    click("Authorize")
    page.wait(f"!!{labelled('Access Token')}")
    click("List schools within reach")
    click("Test Request (get /v1/schools)")
    click("Send")
    page.wait("document.body.innerText.includes('200 OK')")
    assert [status for url, status in page.answered.items() if url.startswith(f"{server.base_url}/v1/schools")] == [200]
    visible = "[...document.querySelectorAll('button')].filter(each => each.checkVisibility()).map(each => each.innerText).join()"
    assert "SDK" not in page.run(visible)
    kept_to_itself(page, server, reader)


def at(id: str) -> str:
    return f"document.getElementById('{id}')"


def admitted(page: Page, server: Server, reader: str) -> None:
    """Opens the explorer and gets a token in it."""
    page.open(server.base_url + "/explorer")
    for name, text in zip(("client", "secret"), server.secrets[reader], strict=True):
        page.type(at(name), text)
    page.run("document.querySelector('#credentials button').click()")
    page.wait(f"{at('standing')}.className === 'good'")


def ask(page: Page, query: str) -> None:
    """Puts a query for what stands in the editor, and presses Ctrl-Enter."""
    page.type(at("query"), query)
    page.press("Enter", 13, control=True)


@in_browser
def test_a_query_is_built_and_run_in_the_explorer(page: Page, server: Server, reader: str) -> None:
    admitted(page, server, reader)
    page.wait(f"{at('panel')}.innerText.includes('Everything that can be read')")
    page.type(at("query"), "query Mine {\n}")
    page.run("document.querySelector('[title=\"Put schools into the query\"]').click()")
    page.wait("document.querySelector('#panel h3').innerText.startsWith('School')")
    page.run("document.querySelector('[title=\"Put name into the query\"]').click()")
    assert page.run(f"{at('query')}.value") == (
        "query Mine {\n  schools(first: 5) {\n    nodes {\n      id\n      name\n    }\n  }\n}"
    )
    page.press("Enter", 13, control=True)
    page.wait(f"{at('measure')}.innerText.startsWith('200')")
    answer = json.loads(page.run(f"{at('shown')}.innerText"))
    assert answer["data"]["schools"]["nodes"]
    page.type(at("search"), "againsttarget")
    page.wait(f"{at('panel')}.innerText.includes('Judgement.againstTarget')")
    kept_to_itself(page, server, reader)


@in_browser
def test_the_explorer_says_what_is_wrong(page: Page, server: Server, reader: str) -> None:
    def told() -> str:
        text: str = page.wait(f"{at('errors')}.innerText.trim()")
        page.run(f"{at('errors')}.replaceChildren()")
        return text

    page.open(server.base_url + "/explorer")
    ask(page, "{ schools { nodes { id } } }")
    assert "A token is needed" in told()
    admitted(page, server, reader)
    ask(page, "{ nothing }")
    assert "Cannot query field 'nothing'" in told()
    ask(page, "{ pupils { nodes { upn } } }")
    assert "pupils:read" in told()
    page.type(at("variables"), "{")
    ask(page, "{ schools { nodes { id } } }")
    assert "The variables are not JSON" in told()
    page.type(at("variables"), "{}")
    payload = base64.urlsafe_b64encode(b'{"exp":1,"scope":"schools:read"}').decode().rstrip("=")
    page.type(at("token"), f"{payload}.{payload}.{payload}")
    page.run(f"{at('token')}.blur()")
    assert (
        page.wait(f"{at('standing')}.className === 'bad' && {at('standing')}.innerText") == "The token has expired. Get a new one."
    )
    ask(page, "{ schools { nodes { id } } }")
    assert "The token has expired or is not valid" in told()


@in_browser
def test_the_explorer_works_without_introspection(page: Page, cluster: embedded.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKONCE_INTROSPECTION", "off")
    with serving(fresh_database(cluster)) as reticent:
        reticent.register("reader", "installation=schools:read")
        admitted(page, reticent, "reader")
        page.wait(f"{at('panel')}.innerText.startsWith('Introspection is switched off')")
        ask(page, "{ schools { nodes { id } } }")
        page.wait(f"{at('measure')}.innerText.startsWith('200')")


CUT = """[...document.querySelectorAll('body *')].filter(each => each.checkVisibility() && each.type !== 'password' && !each.ariaHidden && (
    each.getBoundingClientRect().right > innerWidth + 1
    || (['hidden', 'clip'].includes(getComputedStyle(each).overflowX) && each.scrollWidth > each.clientWidth + 1)
)).map(each => each.outerHTML.slice(0, 80))"""
"""The elements that reach beyond the window, or whose text is cut off. What a password field holds may be longer than it."""


@in_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_in_the_explorer_is_cut_off(page: Page, server: Server, reader: str, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
    admitted(page, server, reader)
    page.wait(f"{at('panel')}.innerText.includes('Everything that can be read')")
    ask(page, "{ schools { nodes { id name } } }")
    page.wait(f"{at('measure')}.innerText.startsWith('200')")
    assert page.run(CUT) == []


@in_browser
def test_with_a_token_nothing_says_that_one_is_needed(page: Page, server: Server, reader: str) -> None:
    page.open(server.base_url + "/explorer")
    ask(page, "{ schools { nodes { id } } }")
    assert "A token is needed" in page.wait(f"{at('errors')}.innerText.trim()")
    for name, text in zip(("client", "secret"), server.secrets[reader], strict=True):
        page.type(at(name), text)
    page.run("document.querySelector('#credentials button').click()")
    page.wait(f"{at('standing')}.className === 'good'")
    page.wait(f"{at('errors')}.innerText === ''")


# The page for governors

WIDTHS = (390, 1280)
DAY = date(2026, 11, 28)
BLANK = "about:blank"
CUT_TEXTS = """[...document.querySelectorAll('body *')].filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0
    && getComputedStyle(each).overflowX !== 'visible').map(each => each.outerHTML.slice(0, 200))"""
"""What is hidden at its right end, though a page may be scrolled or its text be wrapped."""


def make_worst() -> str:
    """As much as the page can hold, in long words of real subjects and windows."""
    rows = [
        SummaryRow(
            subject=f"Religious education and ethics {n}",
            window_kind=("autumn", "spring", "summer", "multiplication tables check")[n % 4],
            schools=20 + n,
            values=123_456,
            minutes=987_654,
            never_read=100_000,
            reuses=98_765.4,
            resends=1_234_567,
            candidates=1,
            verdicts={"keep": 12, "change": 11, "stop": 10, "none": 9},
            aspects=["Main", "Effort", "Teacher assessment"],
        )
        for n in range(MAX_ROWS + 5)
    ]
    words = ("Interventions before the holidays " * 9)[: MAX_TEXT + 20]
    windows = [BudgetWindow(f"2026-27/Extra collection {n}", words, words, words, words) for n in range(MAX_WINDOWS + 2)]
    return write_page(CollectionSummary("The Hedgerow and Riverside Learning Trust of Surrey", DAY, 27, rows, windows, DAY, 12_345))


def measure(page: Page, width: int) -> dict[str, Any]:
    """How wide the document is on a screen of a width, and what of it is cut."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 800)
    wide = page.run("document.documentElement.scrollWidth")
    return {"wide": wide, "cut": page.run(CUT_TEXTS)}


def print_pages(page: Page) -> tuple[int, set[str]]:
    """How many sheets a printer takes, and their sizes in points."""
    data = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
    pdf = base64.b64decode(data)
    sizes = {found.decode() for found in re.findall(rb"/MediaBox \[0 0 ([\d.]+ [\d.]+)\]", pdf)}
    return len(re.findall(rb"/Type\s*/Page\b", pdf)), sizes


@in_browser
def test_the_page_for_governors_is_one_sheet_and_whole_on_any_screen(server: Server, page: Page, reader: str) -> None:
    server.register("governor", "schools=collections:read,schools:read")
    client = server.client("governor")
    (school,) = client.get("/v1/schools", params={"first": 1, "fields": "id,name"}).json()["data"]
    url = f"{server.base_url}/v1/schools/{school['id']}/collection-summary"
    page.call("Network.enable")
    page.call("Network.setExtraHTTPHeaders", headers={"Authorization": client.headers["Authorization"]})
    page.open(url)
    assert school["name"] in page.run("document.body.innerText")
    assert page.hosts() == {server.base_url.removeprefix("http://")}
    check_whole(page)
    page.open(BLANK)
    frame = page.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
    page.call("Page.setDocumentContent", frameId=frame, html=make_worst())
    shown = page.run("document.body.innerText")
    for words in ("ethics 11", "further subjects", "further ones are candidates", "further windows", "lost"):
        assert words in shown.lower(), words
    assert shown.count("teacher assessment") == MAX_CANDIDATES
    check_whole(page)
    assert page.refused == []


def check_whole(page: Page) -> None:
    """Nothing is cut, and all of it is one sheet."""
    for width in WIDTHS:
        found = measure(page, width)
        assert found["wide"] <= width, json.dumps(found)
        assert found["cut"] == [], json.dumps(found)
    page.call("Emulation.clearDeviceMetricsOverride")
    sheets, sizes = print_pages(page)
    assert sheets == 1, sizes
    assert {tuple(round(float(each)) for each in size.split()) for size in sizes} <= {(595, 842), (596, 842), (594, 842)}, sizes
    assert page.refused == []
