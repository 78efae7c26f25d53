"""python tools/vendor_web.py [--check]

Re-creates the libraries of the page under web/vendor from their npm packages, as web/vendor/versions.json pins them:
each package's tarball must have the integrity written there, and each file that results the SHA-256. Needs `npm`.
`--check` only compares the files that are here with their hashes, and needs nothing.

The page has no build step, so a bare import (`from "preact"`) becomes the path of the file beside it: the one change
made to what the packages ship. To move to a newer version: change `version` and `integrity`, run, and copy the SHA-256
that the error names after looking at the difference.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "web" / "vendor"
SOURCE_MAP = re.compile(rb"\n?//# sourceMappingURL=\S+\s*$")


def differing(packages: list[dict]) -> list[str]:
    """One line for each pinned file that is missing or not what its hash says."""
    wrong = []
    for package in packages:
        for file in package["files"]:
            path = VENDOR / file["to"]
            found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            if found != file["sha256"]:
                wrong.append(f"{file['to']}: {found}, pinned {file['sha256']}")
    return wrong


def unpack(package: dict, bare: dict[str, str]) -> None:
    """Fetch one package, check it, and write its pinned files.

    Args:
        package: an entry of versions.json.
        bare: the name under which a module is imported to the file that holds it.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec = f"{package['name']}@{package['version']}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", spec], cwd=folder, check=True, capture_output=True, text=True
        )
        tarball = Path(folder) / packed.stdout.split()[-1]
        digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if package["integrity"] != f"sha512-{digest}":
            raise SystemExit(f"error: {spec} has integrity sha512-{digest}, pinned {package['integrity']}")
        with tarfile.open(tarball) as archive:
            for file in package["files"]:
                member = archive.extractfile("package/" + file["from"])
                assert member is not None, f"{spec} has no file {file['from']}"
                path = VENDOR / file["to"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(standalone(member.read(), bare) if path.suffix == ".js" else member.read())


def standalone(code: bytes, bare: dict[str, str]) -> bytes:
    """The module with bare imports resolved to files beside it, and without its pointer to a source map."""
    for name, file in bare.items():
        code = code.replace(f'from"{name}"'.encode(), f'from"./{file}"'.encode())
    return SOURCE_MAP.sub(b"\n", code)


def main() -> None:
    packages = json.loads((VENDOR / "versions.json").read_text())
    if "--check" not in sys.argv[1:]:
        bare = {file["module"]: file["to"] for package in packages for file in package["files"] if "module" in file}
        for package in packages:
            unpack(package, bare)
    wrong = differing(packages)
    if wrong:
        raise SystemExit("error: web/vendor is not what versions.json pins\n  " + "\n  ".join(wrong))
    print(f"{sum(len(package['files']) for package in packages)} files of {len(packages)} packages are as pinned")


if __name__ == "__main__":
    main()
