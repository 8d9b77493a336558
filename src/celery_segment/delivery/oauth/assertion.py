"""Read the private key, and sign an assertion with it: who this is, to whom, and when."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from celery_segment.config import OAuth, PrivateKey, read_key
from celery_segment.errors import ConfigurationError
from celery_segment.frames import hidden_locals

__all__ = ["check_key", "load_key", "sign"]

#: An assertion is valid from so many seconds before it is made until so many after.
BEFORE, AFTER = 5, 55
#: The least number of bits of an RSA key (RFC 7518, section 3.3).
BITS = 2_048


def check_key(source: str, oauth: OAuth) -> None:
    """Raise ConfigurationError where a source's key cannot sign, or the extra is absent."""
    with hidden_locals():
        load_key(source, oauth)


def load_key(source: str, oauth: OAuth) -> Any:
    """Return the private key, ready to sign.

    Raises:
        ConfigurationError: There is no such file, or no RSA key in it; or the extra is absent.
    """
    try:
        import jwt  # noqa: F401 - it is needed to sign
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise ConfigurationError(
            f"segment_oauth of source {source!r} needs PyJWT and cryptography",
            hint="install them by `pip install 'celery-segment[oauth]'`",
        ) from None
    where = f"private_key in segment_oauth of source {source!r}"
    text = _pem(where, oauth.private_key)
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError):  # which may quote it; cryptography's others are ValueErrors
        key = None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "cryptography":
            raise
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < BITS:
        raise ConfigurationError(
            f"{where} must be an RSA key of at least {BITS:,} bits, as PEM without a passphrase",
            hint="make one by `openssl genrsa -out key.pem 2048`, and give Segment its public key",
        )
    return key


def _pem(where: str, key: PrivateKey) -> bytes:
    try:
        return read_key(key)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no path"
        raise ConfigurationError(
            f"{where} is neither PEM text nor the path of a file that can be read: {why}",
            hint="give an absolute path that the workers may read, or the key's whole text,"
            " from -----BEGIN on",
        ) from None


def sign(key: Any, oauth: OAuth, server: str, now: float) -> str:
    """Return an assertion for an authorization server.

    Args:
        key: The private key.
        oauth: The credentials.
        server: The server's URL, for which alone it is.
        now: The Unix time by the server's clock.
    """
    import jwt

    claims = {
        "iss": oauth.client_id,
        "sub": oauth.client_id,
        "aud": server,
        "iat": int(now) - BEFORE,
        "exp": int(now) + AFTER,
        "jti": uuid4().hex,
    }
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": oauth.key_id})
