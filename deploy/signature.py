"""Who made a bundle: an Ed25519 signature over the exact bytes of bundle.json, and the keys that this machine trusts.

    signature   skylight-bundle-1 FINGERPRINT PUBLIC-KEY SIGNATURE      one line; key and signature in base64
    NAME.pub    ed25519 PUBLIC-KEY NAME FINGERPRINT                     one line, to be copied to where it is trusted

What is signed begins with a line that says what it is for, so that nothing else that the key ever signs passes for a
bundle. The first word of the file is the version of all this.

The public key in the file `signature` says who claims to have signed, so that damage is found where nobody is trusted;
whom to trust is said by the folder of trusted keys alone. Knows nothing of what is in bundle.json, and no private key.
"""

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

from deploy.errors import UserError, refuse
from deploy.strict_json import short

SIGNATURE = "signature"
TRUSTED = Path("/etc/skylight/trusted_keys")
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
SIGNATURE_LIMIT = 1 << 10  # bytes
_CONTEXT = b"skylight bundle 1\n"
_KIND = "skylight-bundle-1"
_OLD_KIND = b"ed25519 "  # over bundle.json alone
_NEWER = re.compile(rb"skylight-bundle-(\d{1,9}) ")
_SIGNATURE = re.compile(_KIND.encode("ascii") + rb" ([0-9a-f]{32}) ([A-Za-z0-9+/=]{44}) ([A-Za-z0-9+/=]{88})\n")
_PUBLIC = re.compile(r"ed25519 ([A-Za-z0-9+/=]{44}) (\S+) ([0-9a-f]{32})\n?")


class PublicKey(NamedTuple):
    """name: its owner's, for people. key: 32 bytes."""

    name: str
    key: bytes

    @property
    def fingerprint(self) -> str:
        """The first half of the key's SHA-256, 32 hexadecimal digits."""
        return hashlib.sha256(self.key).hexdigest()[:32]

    @property
    def line(self) -> str:
        """The content of NAME.pub."""
        return "ed25519 {} {} {}\n".format(_text(self.key), self.name, self.fingerprint)


class Signature(NamedTuple):
    """What is known of who made a bundle.

    fingerprint: of the key that signed; None if nobody did. is_checked: it was verified that this key signed these
    bytes. trusted_as: the name under which this machine trusts that key; None where it trusts nobody in particular.
    """

    fingerprint: Optional[str]
    is_checked: bool
    trusted_as: Optional[str]

    @property
    def text(self) -> str:
        """For people, one line."""
        if self.trusted_as is not None:
            return "signed by {} ({}), who is trusted here".format(self.trusted_as, self.fingerprint)
        unknown = "no trusted keys are set up here, so WHO MADE IT IS NOT CHECKED"
        if self.fingerprint is None:
            return "not signed; " + unknown
        how = "" if self.is_checked else ", which is not checked either, without PyNaCl"
        return "signed by {}{}; {}".format(self.fingerprint, how, unknown)


def parse_public_key(path: Path) -> PublicKey:
    """Read NAME.pub. Raises UserError for anything else than the one line that `skylight keys new` writes."""
    try:
        with path.open("rb") as file:
            found = _PUBLIC.fullmatch(file.read(SIGNATURE_LIMIT).decode("ascii"))
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "give the .pub file of skylight keys new") from None
    except UnicodeDecodeError:
        found = None
    if found is None or not KEY_NAME.fullmatch(found.group(2)):
        raise refuse(path, "is no public key", "copy the .pub file of skylight keys new again")
    public = PublicKey(found.group(2), _bytes(found.group(1), path))
    if public.fingerprint != found.group(3):
        damage = "has fingerprint {}, and says {}".format(public.fingerprint, found.group(3))
        raise refuse(path, damage, "copy the .pub file of skylight keys new again")
    return public


def trusted_keys(folder: Optional[Path] = None) -> Optional[Tuple[PublicKey, ...]]:
    """The keys in `folder`, by default TRUSTED; None where nobody set up trusted keys.

    Raises UserError for a folder that was named and is not there, one that holds no key, and a damaged key: a mistake
    must not turn the check off.
    """
    root = TRUSTED if folder is None else folder
    try:
        files = sorted(file for file in root.iterdir() if file.name.endswith(".pub"))
    except OSError as error:
        if folder is None and isinstance(error, FileNotFoundError):
            return None
        raise refuse(root, error.strerror or str(error), "give the folder of trusted public keys") from None
    if not files:
        raise refuse(root, "holds no trusted key (*.pub)", "put one there, or remove the folder to trust any bundle")
    return tuple(parse_public_key(file) for file in files)


def what_is_signed(manifest: bytes) -> bytes:
    """The bytes that a signature is over. manifest: the bytes of bundle.json."""
    return _CONTEXT + manifest


def signature_line(public: PublicKey, signature: bytes) -> bytes:
    """The content of the file `signature`. signature: 64 bytes, by the private half of `public`, of what is signed."""
    return "{} {} {} {}\n".format(_KIND, public.fingerprint, _text(public.key), _text(signature)).encode("ascii")


def check_signature(
    path: Path, line: Optional[bytes], manifest: bytes, trusted: Optional[Sequence[PublicKey]]
) -> Signature:
    """Check who signed `manifest`, the bytes of bundle.json.

    path: of the file `signature`; line: its content, None if there is none. trusted: None where nobody is trusted in
    particular; then an unsigned bundle passes, and a signature must still fit where it can be checked.
    Raises UserError with a message per reason.
    """
    if line is None:
        if trusted is not None:
            remedy = "make a key with skylight keys new, and export it again"
            raise refuse(path.parent, "is not signed, and this machine takes signed bundles alone", remedy)
        return Signature(None, False, None)
    signer, signature = _parse(path, line)
    name = _trusted_name(path, signer, trusted)
    is_checked = _fits(path, signer, signature, manifest, is_needed=trusted is not None)
    return Signature(signer.fingerprint, is_checked, name)


def _parse(path: Path, line: bytes) -> Tuple[PublicKey, bytes]:
    found = _SIGNATURE.fullmatch(line)
    if found is None:
        _refuse_other_version(path, line)
        what = "breaks off" if not line.endswith(b"\n") else "is no signature of Skylight's"
        raise refuse(path, what, "copy the bundle again")
    fingerprint, key, signature = (group.decode("ascii") for group in found.groups())
    signer = PublicKey("", _bytes(key, path))
    if signer.fingerprint != fingerprint:
        raise refuse(
            path, "names {}, and its key is {}".format(fingerprint, signer.fingerprint), "copy the bundle again"
        )
    return signer, _bytes(signature, path)


def _refuse_other_version(path: Path, line: bytes) -> None:
    if line.startswith(_OLD_KIND):
        found = "is of an older Skylight, whose signatures did not say what they are for"
        raise refuse(path, found, "export the bundle again, with the same key if you like")
    newer = _NEWER.match(line)
    if newer is not None and int(newer.group(1)) > 1:
        raise refuse(
            path, "is of version {}".format(int(newer.group(1))), "install that Skylight here; this one reads 1"
        )


def _trusted_name(path: Path, signer: PublicKey, trusted: Optional[Sequence[PublicKey]]) -> Optional[str]:
    if trusted is None:
        return None
    for public in trusted:
        if public.key == signer.key:
            return public.name
    names = ", ".join("{} ({})".format(public.name, public.fingerprint) for public in trusted)
    found = "signed by {}, who is not trusted here".format(signer.fingerprint)
    raise refuse(path, found, "trusted: {}; if you know that key, put its .pub there".format(names or "nobody"))


def _fits(path: Path, signer: PublicKey, signature: bytes, manifest: bytes, is_needed: bool) -> bool:
    """Whether the signature could be checked; a wrong one is refused."""
    try:
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey
    except ImportError:
        if is_needed:
            remedy = "pip install 'PyNaCl>=1.5' (1.5.0 is the last for Python 3.6)"
            raise UserError("PyNaCl: not installed, and signatures must be checked here; " + remedy) from None
        return False
    try:
        VerifyKey(signer.key).verify(what_is_signed(manifest), signature)
    except BadSignatureError:
        found = "does not fit bundle.json: one of them was changed"
        raise refuse(path, found, "copy the bundle again, or export it again") from None
    return True


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str, path: Path) -> bytes:
    """Base64 that has one spelling: what is left over of its last digit is 0."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        data = b""
    if _text(data) != text or len(data) not in (32, 64):
        raise refuse(path, "{} is no base64".format(short(text)), "copy it again")
    return data
