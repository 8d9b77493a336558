"""A password that may change, in a file: as a secret that is mounted into a container."""

import os
from pathlib import Path

from redis.credentials import CredentialProvider


class FromFile(CredentialProvider):
    """Provides the password that the file has when a connection is made."""

    def get_credentials(self):
        return (Path(os.environ["PASSWORD_FILE"]).read_text(),)
