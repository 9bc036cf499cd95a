"""Counts the requests of a worker. One request takes about a microsecond: a look-up, and a few additions to the board."""

from bisect import bisect_left

from api.watch.board import UNREAD, Board
from api.watch.figures import BOUNDS, MALFORMED_ROUTE, MAX_CLIENTS, OTHER, SUM

MAX_COMBINATIONS = 5_000
"""Combinations of method, route, status and client that are counted apart. In later ones the client is not named."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"})


def find_interface(route: str) -> str:
    """Returns the interface that a route belongs to: rest, graphql, oauth, health or pages."""
    if route.startswith("/v1/"):
        return "rest"
    if route == "/graphql":
        return "graphql"
    if route.startswith(("/oauth/", "/.well-known/")):
        return "oauth"
    return "health" if route.startswith("/health/") else "pages"


class RequestCounts:
    """The figures of requests on the board of a worker."""

    def __init__(self, board: Board) -> None:
        self.board, self._values = board, board.values
        self._positions: dict[tuple[str, str, int, str], tuple[int, int, int, int, int, int]] = {}
        self.clients = {""}
        """Those that have a label of their own."""

    def count(
        self, method: str, route: str, status: int, client: str, seconds: float, sent: int, in_database: float, cost: int
    ) -> None:
        """Counts a request. `client` is its id, or empty where it is not known; `sent` are the bytes of the response; `cost` is
        what it costs of its client's quota."""
        found = self._positions.get((method, route, status, client)) or self._find(method, route, status, client)
        values, bucket = self._values, bisect_left(BOUNDS, seconds)
        total, by_route, by_client, of_bytes, of_database, of_cost = found
        values[total] += 1
        values[by_route + bucket] += 1
        values[by_route + SUM] += seconds
        values[by_client + bucket] += 1
        values[by_client + SUM] += seconds
        values[of_bytes] += sent
        values[of_database] += in_database
        values[of_cost] += cost

    def count_malformed(self, status: int) -> None:
        """Counts a request that did not reach the application, since its head or body is malformed."""
        self.count("", MALFORMED_ROUTE, status, "", 0.0, 0, 0.0, 0)

    def count_problem(self, route: str, status: int, code: str) -> None:
        """Counts a problem in a response, by its code in the catalogue."""
        self._values[self.board.find("markonce_problems_total", find_interface(route), str(status), code)] += 1

    def count_refusal(self, client: str) -> None:
        """Counts a request that was refused because the quota was used up."""
        self._values[self.board.find("markonce_quota_refused_total", self.find_label(client))] += 1

    def find_label(self, client: str) -> str:
        """Returns the label of a client: its id, for the first MAX_CLIENTS; one that all others share."""
        if client not in self.clients:
            if len(self.clients) > MAX_CLIENTS:
                return OTHER
            self.clients.add(client)
        return client

    def _find(self, method: str, route: str, status: int, client: str) -> tuple[int, int, int, int, int, int]:
        label = self.find_label(client)
        if len(self._positions) >= MAX_COMBINATIONS:
            label = OTHER
        name = method if method in METHODS or not method else OTHER
        key = name, route, status, label
        found = self._positions.get(key)
        if found is None:
            find, interface, code = self.board.find, find_interface(route), str(status)
            found = self._positions[key] = (
                find("markonce_requests_total", interface, name, route, code, label),
                find("markonce_request_seconds", interface, name, route, code),
                find("markonce_client_request_seconds", label, interface),
                find("markonce_response_bytes_total", interface),
                find("markonce_database_seconds_total", interface),
                find("markonce_quota_cost_total", label, interface) if label else UNREAD,
            )
        return found
