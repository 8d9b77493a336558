"""An OAuth 2.0 authorization server that verifies assertions as Segment's does, and can fail.

It is a real HTTP server. Its clock, and the life of its tokens, are the test's.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from email.utils import formatdate
from functools import cache
from itertools import count
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from celery_segment.testing import Reply
from celery_segment.testing.listener import Listener

CLIENT, KEY_ID, SCOPE = "cl13nt", "k3y1d", "tracking_api:write"
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN = "t0k3ns3cr3t"


def new_key(bits=2048):
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


@cache
def first_key():
    """Return the key that each server has first; to make one takes 40 ms."""
    return new_key()


def pem_of(key, passphrase=None):
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    pem = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pem, encryption).decode()


class AuthorizationServer:
    """Grants tokens for assertions that are right in every respect.

    Args:
        life: The seconds for which a token is valid.
        ahead: By how many seconds this server's clock is ahead.

    Attributes:
        requests: The statuses of all requests, in order.
        assertions: All assertions.
        granted: When each token ends, by ``time.monotonic()``.
        used: How often each token was presented.
        keys: The public keys by their ids.
    """

    def __init__(self, life=3_600.0, ahead=0.0):
        self.life = life
        self.ahead = ahead
        self.date = True
        self.audience = None
        self.delay = 0.0
        self.requests = []
        self.assertions = []
        self.granted = {}
        self.revoked = set()
        self.used = Counter()
        self.keys = {}
        self._replies = []
        self._always = None
        self._seen = set()
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._port = 0
        self._own = {KEY_ID: first_key()}
        self.keys[KEY_ID] = self._own[KEY_ID].public_key()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Start to listen; after a ``stop()``, at the same port."""
        self._listener = Listener(("127.0.0.1", self._port), self._answer, self._failed)
        self._port = self._listener.server_port

    def stop(self):
        self._listener.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    def pem(self, key_id=KEY_ID):
        return pem_of(self._own[key_id])

    def oauth(self, key_id=KEY_ID, **more):
        """The setting with which a source gets its tokens here."""
        given = {"client_id": CLIENT, "private_key": self.pem(key_id), "key_id": key_id}
        return {**given, "auth_server": self.url, **more}

    def add_key(self, key_id):
        self._own[key_id] = new_key()
        self.keys[key_id] = self._own[key_id].public_key()

    def remove_key(self, key_id):
        """Remove a key, and revoke the tokens that were granted for it."""
        with self._lock:
            del self.keys[key_id]
            self.revoked |= {each for each in self.granted if each.endswith(f".{key_id}")}

    def revoke_all(self):
        with self._lock:
            self.revoked |= {*self.granted}

    def reply(self, *replies):
        """Give the next requests these replies."""
        with self._lock:
            self._replies += replies

    def always(self, reply):
        self._always = reply

    def restore(self):
        """Have no request fail any more."""
        with self._lock:
            self._replies, self._always = [], None

    def check_token(self, token):
        """Return what is wrong with a token, as ``SegmentServer`` asks it; "" if nothing is."""
        with self._lock:
            self.used[token] += 1
            end = self.granted.get(token)
            if end is None:
                return "the token is unknown"
            if token in self.revoked:
                return "the token is revoked"
            return "the token is expired" if time.monotonic() > end else ""

    def _failed(self, error):
        self.requests.append(error)

    def _answer(self, _at, method, path, headers, data):
        with self._lock:
            if self._replies:
                reply = self._replies.pop(0)
            else:
                reply = self._always or self._verified(method, path, headers, data)
            self.requests.append(reply.answered_status)
        if self.delay:
            time.sleep(self.delay)
        if not self.date:
            return reply
        date = ("Date", formatdate(time.time() + self.ahead, usegmt=True))
        return Reply(**{**vars(reply), "headers": (*reply.headers, date)})

    def _verified(self, method, path, headers, data):
        if (method, path) != ("POST", "/token"):
            return Reply.status(404)
        if headers.get_content_type() != "application/x-www-form-urlencoded":
            return Reply.status(415)
        form = {name: values[0] for name, values in parse_qs(data.decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return refusal(400, "unsupported_grant_type")
        if form.get("client_assertion_type") != TYPE or form.get("scope") != SCOPE:
            return refusal(400, "invalid_request", "type or scope")
        self.assertions.append(form["client_assertion"])
        return self._granted(form["client_assertion"])

    def _granted(self, assertion):  # noqa: PLR0911 - a list of checks
        header = jwt.get_unverified_header(assertion)
        key_id = header.get("kid")
        if key_id not in self.keys:
            return refusal(401, "invalid_client", "unknown key")
        options = {"require": ["iss", "sub", "aud", "iat", "exp", "jti"]}
        options |= {"verify_exp": False, "verify_iat": False}
        meant = {"audience": self.audience or self.url, "issuer": CLIENT}
        try:
            claims = jwt.decode(assertion, self.keys[key_id], ["RS256"], options, **meant)
        except jwt.InvalidTokenError as error:
            return refusal(401, "invalid_client", str(error))
        if claims["sub"] != CLIENT:
            return refusal(401, "invalid_client", "subject")
        now = time.time() + self.ahead
        if claims["exp"] <= now:
            return refusal(400, "invalid_request", "Token is expired")
        if claims["iat"] > now:
            return refusal(400, "invalid_request", "Token used before issued")
        if claims["exp"] - claims["iat"] > 60 or claims["jti"] in self._seen:
            return refusal(400, "invalid_request", "too long, or used before")
        self._seen.add(claims["jti"])
        token = f"{TOKEN}{next(self._numbers)}.{key_id}"
        self.granted[token] = time.monotonic() + self.life
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.life}
        return Reply.status(200, body={**body, "scope": SCOPE})


def refusal(status, error, description=""):
    return Reply.status(status, body={"error": error, "error_description": description})
