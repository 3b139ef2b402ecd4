"""What is said to an identity provider, and believed of its answers: OpenID Connect by Authlib, code flow with PKCE."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config.config import Config
from pipeline.errors import ConfigError, NotAuthenticated, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authlib.integrations.httpx_client import OAuth2Client

CALLBACK = "/oidc/callback"
TIMEOUT_S = 10.0  # of a request to the provider
FRESH_S = 3600.0  # how long its addresses and keys are believed
LEEWAY_S = 60  # by which clocks may differ
# Signatures that need the provider's private key; "none" and those with a shared secret are not among them.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

Answer = TypeVar("Answer")


class GrantEnded(Exception):  # noqa: N818
    """The provider does not take the refresh token any more."""


@dataclass(frozen=True)
class Identity:
    """A user as the provider names it, and the token by which it can be asked again."""

    subject: str
    claims: Mapping[str, Any]
    refresh_token: str | None = field(repr=False)


class Provider:
    """The identity provider of `[oidc]`."""

    def __init__(self, config: Config) -> None:
        self._oidc = config.oidc
        self._secret = config.oidc_secret()
        self._redirect = config.web.public_url + CALLBACK
        self._cache: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    @property
    def issuer(self) -> str:
        """Who it is."""
        return self._oidc.issuer

    def authorization_url(self, state: str, nonce: str, verifier: str) -> str:
        """
        Where a browser is sent to log in.

        Raises
        ------
        SourceUnavailable
            The provider does not answer.
        """
        with self._client() as client:
            url, _ = client.create_authorization_url(
                self._addresses()["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return str(url)

    def redeem(self, code: str, nonce: str, verifier: str, now_s: int) -> Identity:
        """
        The user who has logged in, by the code that the browser brought.

        Raises
        ------
        NotAuthenticated
            The provider does not take the code, or its answer does not hold.
        SourceUnavailable
            The provider does not answer.
        """
        address = self._addresses()["token_endpoint"]
        try:
            with self._client() as client:
                tokens = self._send(lambda: client.fetch_token(address, code=code, code_verifier=verifier))
                return self._identity(client, tokens, nonce, None, now_s)
        except GrantEnded as error:
            raise NotAuthenticated(
                "the identity provider does not take the code", remedy="log in again", code="bad_log_in"
            ) from error

    def refresh(self, refresh_token: str, subject: str, now_s: int) -> Identity:
        """
        What the provider says of a user now.

        Raises
        ------
        GrantEnded
            It does not take the refresh token any more.
        NotAuthenticated
            Its answer does not hold.
        SourceUnavailable
            It does not answer.
        """
        address = self._addresses()["token_endpoint"]
        with self._client() as client:
            tokens = self._send(
                lambda: client.refresh_token(address, refresh_token=refresh_token, scope=None)
            )
            return self._identity(client, tokens, None, subject, now_s)

    def _identity(
        self,
        client: "OAuth2Client",
        tokens: Mapping[str, Any],
        nonce: str | None,
        subject: str | None,
        now_s: int,
    ) -> Identity:
        """The claims of the ID token, and for groups that it does not have those of the user info."""
        claims: dict[str, Any] = {}
        if "id_token" in tokens:
            claims = self._verified(tokens["id_token"], tokens.get("access_token"), nonce, now_s)
        elif subject is None:
            raise _unbelievable("it gave no ID token")
        named = claims.get("sub", subject)
        if subject is not None and named != subject:
            raise _unbelievable("it names another user")
        missing = {self._oidc.groups, self._oidc.user_name} - claims.keys()
        if missing and "userinfo_endpoint" in self._addresses():
            info = self._send(lambda: _json(client.get(self._addresses()["userinfo_endpoint"])))
            if info.get("sub") != named:
                raise _unbelievable("its user info is of another user")
            claims = {**info, **claims}
        return Identity(str(named), claims, tokens.get("refresh_token"))

    def _verified(
        self, token: str, access_token: str | None, nonce: str | None, now_s: int
    ) -> dict[str, Any]:
        from authlib.oidc.core import CodeIDToken
        from joserfc.errors import JoseError

        try:
            decoded = self._decoded(token)
            oidc = self._oidc
            options = {
                "iss": {"essential": True, "value": oidc.issuer},
                "aud": {"essential": True, "value": oidc.client_id},
            }
            params = {"nonce": nonce, "client_id": oidc.client_id, "access_token": access_token}
            claims = CodeIDToken(decoded.claims, decoded.header, options, params)
            claims.validate(now=now_s, leeway=LEEWAY_S)
        except (JoseError, ValueError) as error:
            raise _unbelievable(f"its ID token does not hold ({type(error).__name__})") from error
        return dict(claims)

    def _decoded(self, token: str) -> Any:
        """The content of a signed token; keys are read anew once, if none of those that are known fits."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        try:
            return jwt.decode(token, KeySet.import_key_set(self._keys()), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            self._cache.pop("keys", None)
            return jwt.decode(token, KeySet.import_key_set(self._keys()), algorithms=list(ALGORITHMS))

    def _addresses(self) -> Mapping[str, Any]:
        def read() -> Any:
            return self._read(self._oidc.issuer.rstrip("/") + "/.well-known/openid-configuration")

        addresses: Mapping[str, Any] = self._remembered("addresses", read)
        if addresses.get("issuer") != self._oidc.issuer:
            raise ConfigError(
                f"the identity provider calls itself {addresses.get('issuer')}, oidc.issuer is {self._oidc.issuer}",
                remedy="set oidc.issuer to the same text",
                code="other_issuer",
            )
        return addresses

    def _keys(self) -> Any:
        return self._remembered("keys", lambda: self._read(self._addresses()["jwks_uri"]))

    def _remembered(self, name: str, read: Callable[[], Any]) -> Any:
        with self._lock:
            at, value = self._cache.get(name, (0.0, None))
        if value is None or time.monotonic() - at > FRESH_S:
            value = read()
            with self._lock:
                self._cache[name] = (time.monotonic(), value)
        return value

    def _read(self, address: str) -> Any:
        import httpx2

        def get() -> Any:
            return _json(httpx2.get(address, timeout=TIMEOUT_S, follow_redirects=False))

        return self._send(get)

    @contextmanager
    def _client(self) -> "Iterator[OAuth2Client]":
        try:
            from authlib.integrations.httpx_client import OAuth2Client
        except ImportError as error:
            raise ConfigError(
                "oidc.issuer is set, but Authlib is not installed",
                remedy="pip install 'fraudwatch[web]'",
                code="no_web",
            ) from error
        oidc = self._oidc
        with OAuth2Client(
            oidc.client_id,
            self._secret,
            scope=" ".join(oidc.scopes),
            redirect_uri=self._redirect,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            follow_redirects=False,
        ) as client:
            yield client

    def _send(self, request: Callable[[], Answer]) -> Answer:
        """Send a request; what the provider refuses is told apart from a provider that is away."""
        import httpx2
        from authlib.integrations.base_client import OAuthError

        try:
            return request()
        except OAuthError as error:
            if error.error == "invalid_grant":
                raise GrantEnded from error
            raise _away(str(error.error)) from error
        except (httpx2.HTTPError, ValueError) as error:
            raise _away(type(error).__name__) from error


def _json(response: Any) -> dict[str, Any]:
    response.raise_for_status()
    content = response.json()
    if not isinstance(content, dict):
        raise _away("the answer is no JSON object")
    return content


def _unbelievable(why: str) -> NotAuthenticated:
    return NotAuthenticated(
        f"the answer of the identity provider is not believed: {why}",
        remedy="log in again",
        code="bad_log_in",
    )


def _away(why: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"the identity provider does not answer as it should ({why})",
        remedy="try again later",
        code="provider_unreachable",
    )
