"""Documents that somebody gives with --xml, read by the real thing: no libvirt, no root, no traceback, no flood."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

GOOD = """<domain type='qemu'>
  <name>web</name>
  <uuid>6b1a0f5e-0d0c-4d5a-9a5e-000000000001</uuid>
  <memory unit='MiB'>256</memory>
  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <graphics type='vnc'/>
  </devices>
</domain>
"""
LAUGHS = """<!DOCTYPE domain [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><domain type='qemu'><name>&c;</name></domain>"""
EXTERNAL = """<!DOCTYPE domain [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<domain type='qemu'><name>&a;</name></domain>"""
# bytes of address space: enough for Python and lxml, far too little for a document that explodes
ROOM = 1 << 30


def virtcpr(*args: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["prlimit", f"--as={ROOM}", sys.executable, "-m", "virtcpr", *args],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "TERM": "dumb", **environment},
    )


@pytest.mark.parametrize("command", [("check", "--xml"), ("prepare", "--xml"), ("prepare", "--undo", "--xml")])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("<domain type='qemu'><name>web</domain>", "line 1"),
        ("\x00", "line 1"),
        ("no XML at all", "line 1"),
        ("<network><name>default</name></network>", "<network>"),
        ("<domstatus><domain type='qemu'/></domstatus>", "status file"),
        ("<domain type='xen'><name>web</name></domain>", "'xen'"),
        ("<domain><name>web</name></domain>", "type"),
        (LAUGHS, "DOCTYPE"),
        (EXTERNAL, "DOCTYPE"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>\n<domain type="qemu"/>', "ISO-8859-1"),
    ],
    ids=["empty", "cut", "zero", "text", "network", "status", "xen", "typeless", "laughs", "external", "latin"],
)
def test_a_document_that_is_none(command: tuple[str, ...], text: str, said: str) -> None:
    done = virtcpr(*command, "-", stdin=text)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("virtcpr: error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 1000


def test_a_file_that_is_too_big(tmp_path: Path) -> None:
    path = tmp_path / "big.xml"
    path.write_text("<domain type='qemu'>" + "<a/>" * (50 * 1024 * 1024 // 4) + "</domain>")
    begun = time.monotonic()
    done = virtcpr("prepare", "--xml", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path} has more than 1 MiB: that is no domain's XML" in done.stderr
    assert time.monotonic() - begun < 10  # it isn't even read


def test_a_document_of_too_many_elements() -> None:
    done = virtcpr("prepare", "--xml", "-", stdin="<domain type='qemu'>" + "<a/>" * 100_000 + "</domain>")
    assert (done.returncode, done.stdout) == (1, "")
    assert "more than 20000 elements" in done.stderr


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1"])
def test_the_locale_does_not_matter(locale: str) -> None:
    text = GOOD.replace("<memory", "<title>Büro ☃</title><memory", 1)
    done = virtcpr("prepare", "--xml", "-", stdin=text, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "<title>Büro ☃</title>" in done.stdout


def test_a_deep_document() -> None:
    done = virtcpr("check", "--xml", "-", stdin="<domain type='qemu'>" + "<a>" * 100_000)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [("/no/such/file", "/no/such/file can't be read: No such file"), ("/", "/ can't be read: Is a directory")],
)
def test_a_file_that_cannot_be_read(source: str, said: str) -> None:
    done = virtcpr("check", "--xml", source)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.xml"
    path.write_bytes(b"<domain type='qemu'><name>\xe9</name></domain>")
    done = virtcpr("check", "--xml", str(path))
    assert done.returncode == 1
    assert "isn't text in UTF-8 (byte 26)" in done.stderr


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "web.xml"
    path.write_text(GOOD)
    blocked = virtcpr("check", "--mode", "transfer", "--xml", str(path))
    assert blocked.returncode == 4
    assert "RAM won't be shared (main memory)" in blocked.stdout
    assert "from the XML alone" in blocked.stdout

    prepared = virtcpr("prepare", "--xml", str(path))

    assert (prepared.returncode, prepared.stderr) == (0, "")
    assert path.read_text() == GOOD
    assert virtcpr("check", "--mode", "transfer", "--xml", "-", stdin=prepared.stdout).returncode == 0
    assert virtcpr("prepare", "--xml", "-", stdin=prepared.stdout).stdout == prepared.stdout
    assert virtcpr("prepare", "--xml", "-", "--undo", stdin=prepared.stdout).stdout == GOOD


@pytest.mark.parametrize(
    "secret",
    ["<graphics type='vnc' passwd=\"sesame\"/>", "<cookies><cookie name='t'>sesame</cookie></cookies>"],
    ids=["password", "cookie"],
)
def test_a_secret_is_never_shown(secret: str) -> None:
    text = GOOD.replace("</devices>", f"{secret}</devices>")
    shown = virtcpr("prepare", "--dry-run", "--xml", "-", stdin=text)
    assert "+  <memoryBacking>" in shown.stdout
    assert "***" in shown.stdout
    assert "sesame" not in shown.stdout + shown.stderr
    assert "sesame" in virtcpr("prepare", "--xml", "-", stdin=text).stdout


def test_a_domain_that_cannot_be_prepared() -> None:
    device = "<memory model='nvdimm'><source><path>/srv/nv</path></source></memory></devices>"
    done = virtcpr("prepare", "--xml", "-", "-o", "json", stdin=GOOD.replace("</devices>", device))
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 4
    assert report["domains"][0]["result"] == "blocked"
    assert [f["code"] for f in report["domains"][0]["findings"]] == ["nvdimm-private"]
    assert "xml" not in report


def test_what_stays_in_the_way_is_a_warning() -> None:
    done = virtcpr(
        "prepare", "--xml", "-", stdin=GOOD.replace("</devices>", "<vsock><driver packed='on'/></vsock></devices>")
    )
    assert done.returncode == 0
    assert "warning vsock-setting" in done.stderr
    assert "aux-ram-share=on" in done.stdout
