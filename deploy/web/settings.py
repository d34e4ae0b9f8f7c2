"""What the page's section of the settings says, and the token that lets people in. Knows nothing of HTTP."""

import ipaddress
import stat
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from deploy.errors import refuse
from deploy.settings import require_ranges

TOKEN_LENGTH = 16  # characters at least
_MAKE_TOKEN = "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"


class WebSettings(NamedTuple):
    """The page for people to watch.

    enabled: whether it is served.
    host: address to listen on; 127.0.0.1 is this machine alone, anything else needs a token.
    port: 0 to 65535; 0 takes a free one.
    token_file: file with the token on one line, at least 16 characters, which others cannot read; none asks for none.
    names: host names, besides addresses and this machine's own, under which browsers may ask for the page.
    rate: pictures a second at most, 0.2 to 30, for all who watch together.
    width: of the picture, 160 to 1920 pixels; a smaller frame stays as it is.
    quality: of the JPEG, 10 to 95.
    clients: connections at a time, 4 to 200; a browser takes two or three.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8080
    token_file: Optional[str] = None
    names: Tuple[str, ...] = ()
    rate: float = 5.0
    width: int = 640
    quality: int = 60
    clients: int = 24

    def check(self) -> None:
        """Raises UserError naming key, value and what is allowed."""
        require_ranges(self, port=(0, 65535), rate=(0.2, 30), width=(160, 1920), quality=(10, 95), clients=(4, 200))
        if not self.host:
            raise refuse("host=", "is empty", "allowed: 127.0.0.1, 0.0.0.0, or an address of this machine")
        if self.enabled and self.token_file is None and not is_loopback(self.host):
            found = "others can reach it, and there is no token_file"
            raise refuse("host={}".format(self.host), found, "name a token_file, or host = 127.0.0.1 and ssh -L")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises UserError if there is none, it is too short, holds what no header takes, or everybody can read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()[:4096]
    except OSError as error:
        raise refuse(path, error.strerror or str(error), _MAKE_TOKEN) from None
    if stat.S_IMODE(mode) & (stat.S_IROTH | stat.S_IWOTH):
        raise refuse(path, "everybody can read or change the token", "chmod o-rwx it")
    token = text.strip().decode("ascii", "replace")
    if not all("!" <= letter <= "~" for letter in token):
        raise refuse(path, "the token holds white space or letters that are not ASCII", _MAKE_TOKEN)
    if len(token) < TOKEN_LENGTH:
        found = "the token has {} characters, fewer than {}".format(len(token), TOKEN_LENGTH)
        raise refuse(path, found, _MAKE_TOKEN)
    return token
