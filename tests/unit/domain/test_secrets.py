"""What is shown of a domain's XML has no secrets in it."""

from __future__ import annotations

import pytest

from virtcpr.domain.secrets import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<graphics type='vnc' passwd='hunter2' port='-1'/>", "<graphics type='vnc' passwd='***' port='-1'/>"),
        ('<graphics type="spice" passwd = "it\'s"/>', "<graphics type=\"spice\" passwd = '***'/>"),
        ("<cookie name='a'>hunter2</cookie>", "<cookie name='a'>***</cookie>"),
        (
            "<qemu:arg value='secret,id=s,data=hunter2,format=raw'/>",
            "<qemu:arg value='secret,id=s,data=***,format=raw'/>",
        ),
        ("<qemu:arg value='secret,id=s,data=hunter2'/>", "<qemu:arg value='secret,id=s,data=***'/>"),
        (
            "<qemu:arg value='{&quot;qom-type&quot;:&quot;secret&quot;,&quot;data&quot;:&quot;hunter2&quot;}'/>",
            "<qemu:arg value='{&quot;qom-type&quot;:&quot;secret&quot;,&quot;data&quot;:&quot;***&quot;}'/>",
        ),
        ("<qemu:arg value='user,id=n,password=hunter2'/>", "<qemu:arg value='user,id=n,password=***'/>"),
    ],
)
def test_secrets_are_stars(text: str, shown: str) -> None:
    assert masked(f"<a/>\n{text}\n<b/>") == f"<a/>\n{shown}\n<b/>"


def test_the_rest_is_as_it_is() -> None:
    text = "<domain><title>data=1</title><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></domain>"
    assert masked(text) == text
