"""Authorization by OAuth 2.0: a signed assertion is exchanged for a token (RFC 6749, RFC 7523)."""
