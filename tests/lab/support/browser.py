"""A page in a headless Chromium: how it is laid out, and the same as an SVG."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SECONDS = 120
# The page in a frame of that width, which a script looks into: the page itself has none.
FRAME = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="frame" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
const seen = () => {{
  const page = document.getElementById("frame").contentDocument, root = page.documentElement;
  const texts = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), sizes = [];
  while (texts.nextNode()) {{
    const parent = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !parent.getClientRects().length || parent.localName == "title") continue;
    const drawing = parent.closest("svg");
    const scale = drawing ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
    sizes.push(parseFloat(getComputedStyle(parent).fontSize) * scale);
  }}
  const wide = [...page.body.querySelectorAll("*")].filter(
    (one) => !one.closest("svg") && one.getBoundingClientRect().right > {width} + 0.5);
  return {{width: root.scrollWidth, height: root.scrollHeight, smallest: Math.min(...sizes),
    wide: wide.map((one) => one.outerHTML.slice(0, 80))}};
}};
onload = () => {{ const told = document.createElement("output"); told.textContent = JSON.stringify(seen());
  document.body.append(told); }};
</script>
"""
TOLD = re.compile("<output>(.*?)</output>", re.DOTALL)
DARK = re.compile(r"@media \(prefers-color-scheme.*?\} \}", re.DOTALL)  # a picture has one background


@dataclass(frozen=True)
class Layout:
    """In CSS pixels; ``smallest`` is the size of the smallest text, ``wide`` are elements that stand out."""

    width: int
    height: int
    smallest: float
    wide: tuple[str, ...]


def chromium() -> str:
    """Debian's; it is installed if it isn't there."""
    if not shutil.which("chromium"):
        command = ["apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
        subprocess.run(["apt-get", "update"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
    return "chromium"


def laid_out(page: str, width: int) -> Layout:
    """This page in a window of this width."""
    with TemporaryDirectory() as directory:
        frame = Path(directory, "frame.html")
        frame.write_text(FRAME.format(width=width, page=html.escape(page)))
        # --no-sandbox: as root it has none.
        command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={directory}/profile"]
        command += ["--virtual-time-budget=5000", f"--window-size={width + 50},1000", "--dump-dom", frame.as_uri()]
        dumped = subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout
    found = TOLD.search(dumped)
    assert found, dumped
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    return Layout(**{**told, "wide": tuple(told["wide"])})


def svg(page: str, width: int) -> str:
    """A picture with the page in it, as tall as the page is at this width; browsers draw that."""
    height = laid_out(page, width).height
    style = page.partition("<style>")[2].partition("</style>")[0]
    style = DARK.sub("", style).replace(":root {", ".page {").replace("body {", ".page {")
    body = (
        page.partition("<body>")[2].partition("</body>")[0].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    )
    lines = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<foreignObject width="{width}" height="{height}">
<div xmlns="http://www.w3.org/1999/xhtml" class="page">
<style>{style}</style>
{body}
</div>
</foreignObject>
</svg>
"""
    return "".join(f"{line.rstrip()}\n" for line in lines.splitlines() if line.strip())
