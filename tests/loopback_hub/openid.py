"""Signing in: the part of the Hub that is an OpenID provider, as Spaces use it.

Needs joserfc, which comes with authlib, for the signature of an id_token.
"""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode

if TYPE_CHECKING:
    from tests.loopback_hub.hub import Hub
    from tests.loopback_hub.server import Handler

IDENTITY = {"openid", "profile"}
"""What every app gets."""


@dataclass
class OAuthApp:
    """What the Hub knows of a Space with ``hf_oauth: true``."""

    client_id: str = "loopback-app"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    scopes: set[str] = field(default_factory=lambda: {*IDENTITY, "contribute-repos"})
    seconds: int = 8 * 3600
    """How long a sign-in holds."""
    refuses: bool = False
    """Whether the person presses Cancel on the Hub's page."""
    user: str = "someone"
    sub: str = "65a1b2c3d4e5f60718293a4b"
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    """Every token that was handed out, with its scopes."""
    made: set[tuple[str, str]] = field(default_factory=set)
    """The repositories that were created with one of them."""
    _key: Any = None

    def environment(self, hub: Hub) -> dict[str, str]:
        """What a Space of this app finds in its environment."""
        return {
            "SYSTEM": "spaces",
            "SPACE_ID": "me/qa-lora",
            "OAUTH_CLIENT_ID": self.client_id,
            "OAUTH_CLIENT_SECRET": self.client_secret,
            "OAUTH_SCOPES": " ".join(sorted(self.scopes)),
            "OPENID_PROVIDER_URL": hub.address,
        }

    @property
    def key(self) -> Any:
        """The key that id_tokens are signed with."""
        from joserfc.jwk import RSAKey

        if self._key is None:
            self._key = RSAKey.generate_key(2048, {"kid": "loopback", "use": "sig"})
        return self._key


def answer(handler: Handler) -> None:
    """Answer what is about signing in; all else is left to others."""
    address, app = handler.hub.address, handler.hub.app
    if handler.path_only == "/.well-known/openid-configuration":
        handler.send(200, {
            "issuer": address,
            "authorization_endpoint": f"{address}/oauth/authorize",
            "token_endpoint": f"{address}/oauth/token",
            "userinfo_endpoint": f"{address}/oauth/userinfo",
            "jwks_uri": f"{address}/oauth/jwks",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        })  # fmt: skip
    elif handler.path_only == "/oauth/jwks":
        handler.send(200, {"keys": [app.key.as_dict(private=False, alg="RS256")]})
    elif handler.path_only == "/oauth/authorize":
        _authorize(handler, app)
    elif handler.path_only == "/oauth/token":
        _token(handler, app)
    elif handler.path_only == "/oauth/userinfo":
        if handler.token not in app.tokens:
            handler.send(401, {"error": "Invalid credentials in Authorization header"})
        handler.send(200, claims(app, address))


def claims(app: OAuthApp, address: str) -> dict[str, Any]:
    """Who signed in."""
    return {
        "sub": app.sub, "name": "Some One", "preferred_username": app.user,
        "profile": f"{address}/{app.user}", "picture": f"{address}/avatar.png", "website": "",
    }  # fmt: skip


def _authorize(handler: Handler, app: OAuthApp) -> None:
    """The page on which somebody says yes; here they say it at once."""
    asked = {name: values[0] for name, values in handler.query.items()}
    if asked.get("client_id") != app.client_id or asked.get("response_type") != "code":
        handler.send(400, {"error": "invalid_client"})
    if not set(asked.get("scope", "").split()) <= app.scopes:
        handler.send(400, {"error": "invalid_scope"})
    said = {"state": asked["state"]}
    if app.refuses:
        said |= {"error": "access_denied", "error_description": "The user said no."}
    else:
        code = secrets.token_urlsafe(16)
        app.codes[code] = asked
        said["code"] = code
    joint = "&" if "?" in asked["redirect_uri"] else "?"
    handler.send(302, b"", {"Location": f"{asked['redirect_uri']}{joint}{urlencode(said)}"})


def _token(handler: Handler, app: OAuthApp) -> None:
    form = {name: values[0] for name, values in parse_qs(handler.body.decode()).items()}
    scheme, _, given = handler.headers.get("Authorization", "").partition(" ")
    named, _, secret = base64.b64decode(given or b"").decode().partition(":")
    if scheme != "Basic" or (unquote(named), unquote(secret)) != (app.client_id, app.client_secret):
        handler.send(401, {"error": "invalid_client"})
    asked = app.codes.pop(form.get("code", ""), None)
    if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
        handler.send(400, {"error": "invalid_grant"})
        return
    from joserfc import jwt

    token, now = f"hf_oauth_{secrets.token_urlsafe(32)}", int(time.time())
    app.tokens[token] = set(asked["scope"].split())
    address = handler.hub.address
    signed = {
        **claims(app, address), "iss": address, "aud": app.client_id, "iat": now,
        "exp": now + app.seconds, "nonce": asked.get("nonce", ""),
    }  # fmt: skip
    handler.send(200, {
        "access_token": token, "token_type": "bearer", "scope": asked["scope"],
        "expires_in": app.seconds,
        "id_token": jwt.encode({"alg": "RS256", "kid": "loopback"}, signed, app.key),
    })  # fmt: skip
