"""An installation in process, as a client's developer meets it: its HTTP client, registered clients, and tokens good and forged."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.http import auth
from api.oauth.client_auth import ASSERTION_TYPE

BASE = "https://markonce.example"
SECRET = b"a secret of the installation, for tests"
HELD = "judgements:write pupils:read schools:read"
SIGNS = ECKey.generate_key("P-256", {"kid": "first"})
RSA = RSAKey.generate_key(2048, {"kid": "second"})
EDWARDS = OKPKey.generate_key("Ed25519", {"kid": "third"})


async def who(request: Request) -> Response:
    """Answers who asks."""
    caller = await auth.authenticate(request)
    return JSONResponse({"client": str(caller.client_id), "scope": " ".join(sorted(caller.token_scopes))})


async def unauthorised(request: Request, problem: Any) -> Response:
    return Response(str(problem), 401, {"WWW-Authenticate": problem.challenge})


def forged(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A JWT whose signature is whatever `sign` makes of the bytes to be signed."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(sign(signed.encode()))}"


@dataclass
class Installation:
    """Two clients hold the same scopes: `client_id` has a secret, `signer` signs with SIGNS, RSA and EDWARDS."""

    app: Starlette
    http: httpx2.AsyncClient
    operator: Any
    client_id: str
    secret: str
    signer: str
    grant_id: UUID

    async def ask(self, data: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        """A request for a token."""
        return await self.http.post("/oauth/token", data={"grant_type": "client_credentials", **(data or {})}, **options)

    async def token(self) -> str:
        return str((await self.ask(auth=(self.client_id, self.secret))).json()["access_token"])

    async def who(self, token: str) -> httpx2.Response:
        return await self.http.get("/who", headers={"Authorization": f"Bearer {token}"})

    async def present(self, assertion: str, **more: str) -> httpx2.Response:
        """A request for a token with a client assertion."""
        return await self.ask({"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion, **more})

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a good assertion, changed; None leaves one out."""
        now = int(time.time())
        usual = {
            "iss": self.signer,
            "sub": self.signer,
            "aud": BASE,
            "iat": now,
            "exp": now + 60,
            "jti": str(time.perf_counter_ns()),
        }
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def sign(self, key: Any = SIGNS, alg: str = "ES256", header: dict[str, Any] | None = None, **changed: Any) -> str:
        """A signed assertion."""
        return jws.serialize_compact({"alg": alg, "kid": key.kid, **(header or {})}, json.dumps(self.claims(**changed)), key, [alg])

    def refused(self, answer: httpx2.Response, error: str, status: int = 400) -> str:
        """Checks an error response (RFC 6749 section 5.2) and gives its description."""
        body = answer.json()
        assert (answer.status_code, body["error"], answer.headers["cache-control"]) == (status, error, "no-store"), body
        assert all(0x20 <= ord(c) <= 0x7E and c not in '"\\' for c in body["error_description"])
        return str(body["error_description"])

    def forget(self) -> None:
        """The process knows what one does that has just started."""
        if hasattr(self.app.state, "authenticator"):
            del self.app.state.authenticator
