"""Key pairs of this user, and signing with them: NAME.key, for nobody else to read, and NAME.pub, for the drones.

Knows nothing of what is signed. The drone's half, `deploy.signature`, defines public keys and signatures.
"""

import base64
import binascii
import getpass
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.files import new_file
from deploy.signature import KEY_NAME, PublicKey, parse_public_key, signature_line, what_is_signed
from pipeline.errors import refuse

__all__ = ["SigningKey", "chosen_key", "key_folder", "list_keys", "new_key", "read_key"]

_PRIVATE = re.compile(r"skylight-private-ed25519 ([A-Za-z0-9+/=]{44}) (\S+)\n?")


@dataclass(frozen=True)
class SigningKey:
    """The private half, 32 bytes, never shown, and the public one."""

    seed: bytes
    public: PublicKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public.name}, {self.public.fingerprint})"

    @property
    def sign(self) -> Callable[[bytes], bytes]:
        """Turns the bytes of a manifest into the content of the file `signature`; the same bytes give the same."""
        from nacl.signing import SigningKey as Ed25519

        return lambda data: signature_line(self.public, Ed25519(self.seed).sign(what_is_signed(data)).signature)


def key_folder() -> Path:
    """Where this user's keys lie by default."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "skylight" / "keys"


def new_key(folder: Path, name: str | None = None) -> PublicKey:
    """Make a pair, `folder`/NAME.key and NAME.pub; by default named after the user.

    Raises:
        UserError: a key of that name is there; nothing is overwritten.
    """
    from nacl.signing import SigningKey as Ed25519

    name = name or _user_name()
    if not KEY_NAME.fullmatch(name):
        raise refuse(f"--name {name}", "no name of a key", "use letters, digits and _.@-, at most 64")
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    for path in (private, public):
        if os.path.lexists(path):
            raise refuse(
                path,
                "is there already",
                "give another --name; a key is never overwritten, since nothing could be signed with it again",
            )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pair = Ed25519.generate()
    made = PublicKey(name, bytes(pair.verify_key))
    with new_file(private, mode=0o600) as part:
        part.write_text(f"skylight-private-ed25519 {base64.b64encode(bytes(pair)).decode()} {name}\n")
    with new_file(public) as part:
        part.write_text(made.line)
    return made


def _user_name() -> str:
    """What a key may be called of the user's name; a container's user may have none."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    return re.sub(r"[^A-Za-z0-9_.-]", "", user).lstrip("_.-")[:64] or "skylight"


def list_keys(folder: Path) -> list[tuple[PublicKey, bool]]:
    """Public keys in `folder`, and whether the private half lies beside each."""
    return [(parse_public_key(path), path.with_suffix(".key").is_file()) for path in sorted(folder.glob("*.pub"))]


def read_key(path: Path) -> SigningKey:
    """Read NAME.key.

    Raises:
        UserError: no such file, others may read it, or it is no private key.
    """
    from nacl.signing import SigningKey as Ed25519

    remedy = "give the .key file of skylight keys new"
    try:
        text = path.read_text(encoding="ascii") if path.stat().st_size < 1000 else ""
        is_open = path.stat().st_mode & 0o077
    except OSError as error:
        raise refuse(path, error.strerror or str(error), remedy) from None
    except UnicodeDecodeError:
        text, is_open = "", 0
    found = _PRIVATE.fullmatch(text)
    try:
        seed = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        seed = b""
    if found is None or len(seed) != 32 or not KEY_NAME.fullmatch(found[2]):
        raise refuse(path, "is no private key", remedy)
    if is_open:
        raise refuse(path, "other users may read it", f"chmod 600 {path}, or make a new key if somebody did")
    return SigningKey(seed, PublicKey(found[2], bytes(Ed25519(seed).verify_key)))


def chosen_key(file: Path | None, folder: Path | None = None) -> SigningKey | None:
    """The key that signs: the one named, else the only one of this user; None where there is none.

    Raises:
        UserError: several, of which none was named; or one that cannot be read.
    """
    if file is not None:
        return read_key(file)
    found = sorted((folder or key_folder()).glob("*.key"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise refuse(found[0].parent, f"holds several keys: {names}", f"say which signs, for example --key {found[0]}")
    return read_key(found[0]) if found else None
