"""The verbs that look at bundles without running them, and those of the keys that sign them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, app
from pipeline.cli.overview import examples

__all__ = ["bundle_app", "keys_app"]

bundle_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("skylight bundle show bundles/arch-1", "skylight bundle diff bundles/arch-1 bundles/arch-2"),
    help="Look at bundles: where they come from, whether they are whole and trusted, what differs.",
)
app.add_typer(bundle_app, name="bundle")

keys_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("skylight keys new", "skylight keys list"),
    help="The keys that sign bundles, and whose public halves drones trust.",
)
app.add_typer(keys_app, name="keys")

_BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that skylight export made.")]
_KeyFolder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Where the keys lie; by default ~/.config/skylight/keys."),
]


@bundle_app.command(
    epilog=examples("skylight bundle show bundles/arch-1", "skylight bundle show bundles/arch-1 --json")
)
def show(bundle: _BundleFolder, as_json: Json = False) -> None:
    """Print what a bundle is, and the chain of its weights back to published ones or to chance."""
    from deploy.bundle import MANIFEST, read_bundle
    from pipeline.report.bundle import bundle_text

    found = read_bundle(bundle)
    if as_json:
        content = json.loads((found.root / MANIFEST).read_bytes())
        print(json.dumps(content | {"signature": found.signature._asdict()}))
        return
    print(bundle_text(found))


@bundle_app.command(
    epilog=examples(
        "skylight bundle verify bundles/arch-1 --golden",
        "skylight bundle verify bundles/arch-1 --trusted drone/trusted_keys",
    )
)
def verify(
    bundle: _BundleFolder,
    trusted: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Trusted public keys; by default /etc/skylight/trusted_keys if it is there."
        ),
    ] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Run every model on the golden frames.")] = False,
    as_json: Json = False,
) -> None:
    """Check signature, manifest, files and, with --golden, what the models find; print what was checked."""
    from deploy.bundle import read_bundle
    from deploy.signature import trusted_keys
    from pipeline.export.golden import run_golden
    from pipeline.report.bundle import checked_text

    found = read_bundle(bundle, trusted_keys(trusted))
    reports = run_golden(found) if golden else []
    if as_json:
        checked = {"bundle": str(bundle), "files": sorted(found.files), "signature": found.signature._asdict()}
        print(json.dumps(checked | {"golden": [report._asdict() for report in reports]}))
        return
    print(checked_text(found, reports))


@bundle_app.command(epilog=examples("skylight bundle diff bundles/arch-1 bundles/arch-2"))
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="Folder that skylight export made.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The same of another.")],
    as_json: Json = False,
) -> None:
    """Say what differs between two bundles: classes, thresholds, weights, data, parity, files."""
    from dataclasses import asdict

    from deploy.bundle import read_bundle
    from pipeline.export.bundle_changes import bundle_changes
    from pipeline.report.bundle import changes_text

    changes = bundle_changes(read_bundle(before), read_bundle(after))
    print(json.dumps([asdict(change) for change in changes]) if as_json else changes_text(changes))


@keys_app.command(epilog=examples("skylight keys new", "skylight keys new --name field-team --folder keys"))
def new(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Of the key; by default that of the user.")] = None,
    folder: _KeyFolder = None,
    as_json: Json = False,
) -> None:
    """Make a key pair: NAME.key signs and stays here, NAME.pub goes to every drone that is to trust it."""
    from deploy.signature import TRUSTED
    from pipeline.export.keys import key_folder, new_key

    place = folder or key_folder()
    public = new_key(place, name)
    if as_json:
        print(json.dumps({"name": public.name, "fingerprint": public.fingerprint, "folder": str(place)}))
        return
    print(public.line, end="")
    print(f"private: {place / public.name}.key; keep it to yourself")
    print(f"public:  {place / public.name}.pub; copy it to {TRUSTED} on the drones")


@keys_app.command("list", epilog=examples("skylight keys list"))
def list_(folder: _KeyFolder = None, as_json: Json = False) -> None:
    """List the keys, each as the line of its .pub file."""
    from pipeline.export.keys import key_folder, list_keys

    place = folder or key_folder()
    found = list_keys(place)
    if as_json:
        rows = [{"name": key.name, "fingerprint": key.fingerprint, "signs": signs} for key, signs in found]
        print(json.dumps(rows))
        return
    for key, signs in found:
        print(key.line.rstrip() + ("" if signs else "  (no private half here)"))
    if not found:
        print(f"no key in {place}; make one with skylight keys new")
