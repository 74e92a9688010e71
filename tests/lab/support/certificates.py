"""A certificate for the host's displays, as an administrator gives libvirt one."""

from __future__ import annotations

from tests.lab.support.client import shell


def give_displays(kind: str, password: str) -> None:
    """For displays of this kind (vnc or spice), over TLS from the guests' next start on, with a password of the host's.
    libvirtd starts anew."""
    shell(f"""
directory=/etc/pki/libvirt-{kind}
mkdir -p $directory
cd $directory
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=lab-ca -keyout ca-key.pem -out ca-cert.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=lab -keyout server-key.pem -out lab.csr
openssl x509 -req -in lab.csr -CA ca-cert.pem -CAkey ca-key.pem -days 30 -out server-cert.pem
chown -R libvirt-qemu: $directory
cat >> /etc/libvirt/qemu.conf <<END
{kind}_tls = 1
{kind}_tls_x509_cert_dir = "$directory"
{kind}_password = "{password}"
END
systemctl restart libvirtd
""")
