"""A signed apt repository with the package: installed from, and refused when somebody has changed it."""

from __future__ import annotations

import pytest

from tests.lab.support import client, packaging
from tests.lab.support.client import run, shell
from tests.lab.support.machine import Lab

REPOSITORY, KEY = "/srv/virtcpr", "packages@virtcpr.example"
SOURCE = f"""Types: deb
URIs: file://{REPOSITORY}
Suites: virtcpr
Components: main
Signed-By: {REPOSITORY}/virtcpr.asc
"""
# Only this source: the lab has no network.
APT = (
    "apt-get -qy -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/virtcpr.sources -o Dir::Etc::sourceparts=/dev/null "
    "-o Dpkg::Options::=--force-unsafe-io"
)


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    """Signed by a key of its own.  (-d: the lab has no C++ compiler, which Debian wants for every build.)"""
    shell(f"gpg --batch --passphrase '' --quick-generate-key {KEY} default default never")
    shell(f"mkdir -p {packaging.BUILD}; cp -a /usr/src/virtcpr {packaging.BUILD}/virtcpr")
    shell(f"cd {packaging.BUILD}/virtcpr; make repository KEY={KEY} REPOSITORY={REPOSITORY} BUILDFLAGS=-d", timeout=300)
    shell("cat > /etc/apt/sources.list.d/virtcpr.sources", stdin=SOURCE)
    shell("pip uninstall -qy --root-user-action=ignore --break-system-packages virtcpr; rm -rf /usr/src/virtcpr")
    return REPOSITORY


def test_a_key_must_be_named(lab: Lab) -> None:
    said = run("make", "-C", "/usr/src/virtcpr", "repository", check=False)
    assert (said.code, "which secret key of GnuPG signs it?" in said.err) == (2, True)


def test_it_is_installed_from(source: str) -> None:
    shell(f"{APT} update")
    assert "file:/srv/virtcpr virtcpr/main" in shell("apt-cache policy virtcpr")
    shell(f"env DEBIAN_FRONTEND=noninteractive {APT} install virtcpr", timeout=300)
    assert client.virtcpr("list").code == 0


def test_the_same_package_again_is_no_error(source: str) -> None:
    shell(f"cd {packaging.BUILD}/virtcpr; packages/apt/repository {KEY} {REPOSITORY} ../*.deb")
    shell(f"{APT} update")


def test_what_somebody_has_changed_is_refused(source: str) -> None:
    release = f"{source}/dists/virtcpr/InRelease"
    shell(f"sed -i 's/^Origin: virtcpr/Origin: somebody/' {release}")
    refused = run(*APT.split(), "update", "--error-on=any", check=False)
    assert refused.code != 0
    assert "has been manipulated" in refused.err
