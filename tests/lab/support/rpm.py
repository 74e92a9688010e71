"""virtcpr as its rpm package, as far as a Debian system goes: built and installed in the lab by Debian's rpm."""

from __future__ import annotations

from tests.lab.support.client import run, shell
from virtcpr import __version__

TOP = "/var/tmp/rpm"
SPEC = "/usr/src/virtcpr/packages/rpm/virtcpr.spec"
# What Fedora's macros do, which Debian doesn't have.
MACROS = r"""
%_topdir /var/tmp/rpm
%python3 /usr/bin/python3
%python3_sitelib /usr/lib/python3/dist-packages
%pyproject_buildrequires :
%pyproject_wheel %{pip} wheel --no-deps --no-build-isolation --wheel-dir wheels .
%pip %{python3} -m pip --quiet
%pyproject_install %{pip} install --no-deps --no-index --target %{buildroot}%{python3_sitelib} wheels/*.whl; %{move}
%move mv %{buildroot}%{python3_sitelib}/bin %{buildroot}/usr/bin
%pyproject_files %{_builddir}/files
%pyproject_save_files() find %{buildroot}%{python3_sitelib} -type f | sed 's:^%{buildroot}::' > %{pyproject_files}
%bash_completions_dir %{_datadir}/bash-completion/completions
%zsh_completions_dir %{_datadir}/zsh/site-functions
%fish_completions_dir %{_datadir}/fish/vendor_completions.d
%_tmpfilesdir /usr/lib/tmpfiles.d
%_unitdir /usr/lib/systemd/system
%_libexecdir /usr/libexec
%systemd_requires %{nil}
%systemd_post() if [ $1 -eq 1 ]; then systemctl --no-reload preset %{?*} || :; fi
%systemd_preun() if [ $1 -eq 0 ]; then systemctl --no-reload disable --now %{?*} || :; fi
%systemd_postun() systemctl daemon-reload || :
"""
# A package of QEMU, as little of it as there must be for rpm to find.
QEMU = """
Name: qemu-of-the-tests
Version: {version}
Release: 1
Summary: A file
License: none
BuildArch: noarch
%description
A file.
%install
mkdir -p %{{buildroot}}{directory}
echo {version} > %{{buildroot}}{path}
%files
{path}
"""


def build() -> str:
    """The package; its path in the lab."""
    name = f"virtcpr-{__version__}"
    shell(f"rm -rf {TOP}; mkdir -p {TOP}/SOURCES; cat > /root/.rpmmacros", stdin=MACROS)
    shell(f"cp -a /usr/src/virtcpr {TOP}/{name}; cd {TOP}; tar czf SOURCES/{name}.tar.gz {name}")
    return _build(SPEC)


def build_qemu(version: int, path: str) -> str:
    """One with this file; its path in the lab."""
    spec = f"{TOP}/qemu.spec"
    shell(f"cat > {spec}", stdin=QEMU.format(version=version, path=path, directory=path.rpartition("/")[0]))
    return _build(spec)


def _build(spec: str) -> str:
    written = shell(f"rpmbuild -bb --nodeps {spec} 2>&1", timeout=300)
    (path,) = [line.partition(": ")[2] for line in written.splitlines() if line.startswith("Wrote: ")]
    return path


def rpm(*arguments: str, check: bool = True) -> str:
    """What rpm said; its database begins empty, so that nothing is there by its own account."""
    done = run("rpm", "--nodeps", *arguments, check=check)
    return done.out + done.err
