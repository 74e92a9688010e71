"""Domain XML as people, tools and libvirt write it; what a document says and how it is written vary apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st
from lxml import etree

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
VIRTCPR = "urn:virtcpr:domain:1"
Draw = Callable[[st.SearchStrategy["Node | None"]], "Node | None"]


@dataclass
class Node:
    """An element; attributes' values and text are values, not yet escaped."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: Sequence[Node] = ()
    text: str = ""


def node(name: str, /, *children: Node, text: str = "", **attributes: str) -> Node:
    return Node(name, attributes, children, text)


def maybe(*options: Node) -> st.SearchStrategy[Node | None]:
    return st.none() | st.sampled_from(options)


ODD_TEXT = st.text(st.sampled_from("aé€ <>&'\"]\t\n."), max_size=6)
NAMES = ODD_TEXT.map(lambda text: node("name", text=f"guest{text}"))
OTHERS_METADATA = (
    Node("app:x", {"xmlns:app": "urn:app", "app:y": "a > b"}, [Node("app:z", text="1 < 2")]),
    Node("other", {"xmlns": "urn:other"}, [node("inner", type="memfd")]),
    Node("copy:commandline", {"xmlns:copy": QEMU}, [Node("copy:arg", {"value": "aux-ram-share=off"})]),
)
OWN_METADATA = (
    Node("virtcpr:domain", {"xmlns:virtcpr": VIRTCPR}),
    Node("virtcpr:domain", {"xmlns:virtcpr": VIRTCPR}, [Node("virtcpr:skip", {"why": "tested by hand"})]),
    Node("v:domain", {"xmlns:v": VIRTCPR}, [Node("v:skip")]),
    Node("domain", {"xmlns": VIRTCPR}, [Node("skip")]),
)
SOURCES = (node("source", type="file"), node("source", type="anonymous"), node("source", type="memfd"), node("source"))
ACCESSES = (node("access", mode="private"), node("access", mode="shared"), node("access"))
BACKING = (
    node("hugepages"),
    node("hugepages", node("page", size="2048", unit="KiB", nodeset="0")),
    node("nosharepages"),
    node("locked"),
    node("discard"),
    node("allocation", mode="immediate", threads="2"),
)
ODD = (
    node("unknown", node("memory", model="dimm", access="private"), node("cell", memAccess="private"), text="words"),
    node("resource", node("partition", text="/machine")),
    Node("u:x", {"xmlns:u": "urn:unknown", "u:access": "private"}, [Node("u:access", {"mode": "private"})]),
)
BOOTS = (node("os", node("boot", dev="hd")), node("os", node("boot", dev="hd"), node("boot", dev="network")))
ARGUMENTS = (
    ("-machine", "aux-ram-share=on"),
    ("-machine", "aux-ram-share=off"),
    ("-M", "usb=off,aux-ram-share=no,usb=on"),
    ("--machine", "q35,aux-ram-share"),
    ("-machine", "aux-ram-share=off,aux-ram-share=n"),
    ("-machine", "aux-ram-share=yes"),
    ("-machine", "aux-ram-share"),
    ("-machine", "a=b,,c,bare,a=c,aux-ram-share=false"),
    ("-machine", '{"type":"q35"'),
    ("-global", "virtio-net-pci-base.romfile="),
    ("-global", "e1000.romfile=x"),
    ("-machine", ""),
    ("-machine", "x=a,,aux-ram-share=off"),
    ("-name", "-machine"),
    ("-set", "device.x.y=a&b<'\"é"),
    ("-no-reboot",),
    ("stray",),
    ("aux-ram-share=off",),
    ("-machine",),
    ("-unknown-flag",),
)


@st.composite
def metadata(draw: st.DrawFn) -> Node | None:
    children = draw(st.lists(st.sampled_from(OTHERS_METADATA), max_size=2, unique_by=lambda one: one.name))
    own = draw(maybe(*OWN_METADATA))
    if own is not None:
        children.insert(draw(st.integers(0, len(children))), own)
    return draw(st.sampled_from([None, Node("metadata", children=children)]))


@st.composite
def backing(draw: st.DrawFn) -> Node | None:
    parts = draw(st.lists(st.sampled_from(BACKING), max_size=3, unique_by=lambda one: one.name))
    for choice in (SOURCES, ACCESSES):
        one = draw(maybe(*choice))
        if one is not None:
            parts.insert(draw(st.integers(0, len(parts))), one)
    return draw(st.sampled_from([None, Node("memoryBacking", children=parts)]))


@st.composite
def cpu(draw: st.DrawFn) -> Node | None:
    if draw(st.booleans()):
        return None
    numbered = draw(st.booleans())
    cells = []
    for number in draw(st.permutations(range(draw(st.integers(0, 3))))):
        access = draw(st.sampled_from([{}, {"memAccess": "shared"}, {"memAccess": "private"}]))
        identity = {"id": str(number)} if numbered else {}
        cells.append(Node("cell", {**identity, "memory": "512", **access}))
    return node("cpu", node("model", text="qemu64"), Node("numa", children=cells))


@st.composite
def dimm(draw: st.DrawFn) -> Node:
    access = draw(st.sampled_from([{}, {"access": "shared"}, {"access": "private"}]))
    alias = draw(st.sampled_from([[], [node("alias", name="ua-one")], [node("alias", name="ua-'two\"")]]))
    model = draw(st.sampled_from(["dimm", "dimm", "nvdimm", "virtio-mem"]))
    return Node("memory", {"model": model, **access}, [node("target", node("size", text="524288")), *alias])


@st.composite
def interface(draw: st.DrawFn) -> Node:
    model = draw(
        st.sampled_from([[], *([node("model", type=one)] for one in ("virtio", "e1000", "e1000e", "rtl8139"))])
    )
    rest = draw(st.sampled_from([[], [], [node("rom", enabled="no")], [node("boot", order="2")]]))
    return Node("interface", {"type": "network"}, [*model, *rest])


@st.composite
def devices(draw: st.DrawFn) -> Node | None:
    if draw(st.integers(0, 3)) == 0:
        return None
    disk = node("disk", node("source", file="/a > b & 'c'"), node("target", dev="vda"), type="file")
    dimms = draw(st.lists(dimm(), max_size=3))
    interfaces = draw(st.lists(interface(), max_size=2))
    return Node("devices", children=[disk, *dimms, *interfaces, node("memballoon", model="virtio")])


@dataclass(frozen=True)
class Binding:
    """How the document binds QEMU's namespace: on the root, on the command line, to which prefix."""

    root: dict[str, str]
    line: dict[str, str]
    prefix: str


BINDINGS = (
    Binding({"xmlns:qemu": QEMU}, {}, "qemu:"),
    Binding({"xmlns:q": QEMU}, {}, "q:"),
    Binding({"xmlns:qemu": "urn:something-else"}, {"xmlns:q": QEMU}, "q:"),
    Binding({"xmlns:qemu": "urn:something-else", "xmlns:qemu2": "urn:more"}, {"xmlns": QEMU}, ""),
    Binding({}, {"xmlns:qemu": QEMU}, "qemu:"),
    Binding({}, {"xmlns": QEMU}, ""),
)


@st.composite
def command_lines(draw: st.DrawFn, binding: Binding) -> list[Node]:
    p = binding.prefix
    words = [word for pair in draw(st.lists(st.sampled_from(ARGUMENTS), max_size=4)) for word in pair]
    children = [Node(f"{p}arg", {"value": word}) for word in words]
    if draw(st.booleans()):
        children.insert(draw(st.integers(0, len(children))), Node(f"{p}env", {"name": "A", "value": "b"}))
    lines = [Node(f"{p}commandline", binding.line, children)] if draw(st.integers(0, 3)) else []
    if draw(st.booleans()):
        lines.append(Node(f"{p}capabilities", binding.line, [Node(f"{p}del", {"capability": "x"})]))
    return lines


@st.composite
def domains(draw: st.DrawFn) -> str:
    """The text of a domain that libvirt's QEMU driver could be given."""
    binding = draw(st.sampled_from([*BINDINGS, None]))
    lines = [] if binding is None else draw(command_lines(binding))
    given = [draw(NAMES), draw(metadata()), node("memory", text="1024", unit="MiB"), draw(backing())]
    given += [draw(maybe(node("currentMemory", text="1024"))), draw(maybe(*BOOTS)), draw(cpu()), draw(devices())]
    children = [*filter(None, given), *draw(st.lists(st.sampled_from(ODD), max_size=2)), *lines]
    if draw(st.integers(0, 4)) == 0:
        children = draw(st.permutations(children))
    if draw(st.integers(0, 19)) == 0:
        children = []
    attributes = {"type": draw(st.sampled_from(["kvm", "qemu", "hvf"])), **({} if binding is None else binding.root)}
    return Writer(Random(draw(st.integers(0, 2**32)))).document(Node("domain", attributes, children))


class Writer:
    """One way of writing: indentation, line ends, quotes, empty elements, comments and the like."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._break = random.choice(["\n", "\n", "\r\n", ""])
        self._step = random.choice(["  ", "\t", "", "    "]) if self._break else ""
        self._noise = random.choice([0, 0, 0.1, 0.3])

    def document(self, root: Node) -> str:
        declared = self._random.choice(['<?xml version="1.0"?>', "<?xml version='1.0' encoding='utf-8' ?>", ""])
        start = self._random.choice(["", "", "\ufeff"]) + declared + self._break
        if not declared:
            start = self._random.choice(["", "\n", "<!-- é -->", "<?first é?>\n"])
        end = self._random.choice(["", self._break, "\n<!-- the end -->\n", "<?last?>"])
        return start + self._element(root, self._break) + end

    def _element(self, one: Node, line: str) -> str:
        words = "".join(f"{self._gap()}{name}{self._equals(value)}" for name, value in one.attributes.items())
        text = self._text(one.text)
        if not one.children and not text:
            blank = self._random.choice(["/>", "/>", " />", "\n/>", "><", " ><", f">{line}<", "><!-- x --><"])
            return f"<{one.name}{words}{blank}{'' if blank.endswith('>') else f'/{one.name} >'}"
        inner = "".join(f"{self._misc(line)}{line}{self._step}{self._child(child, line)}" for child in one.children)
        last = line if one.children else ""
        return f"<{one.name}{words}>{text}{inner}{self._misc(line)}{last}</{one.name}>"

    def _child(self, child: Node, line: str) -> str:
        return self._element(child, line + self._step) + ("<!-- its remark -->" if self._noisy() else "")

    def _noisy(self) -> bool:
        return self._random.random() < self._noise

    def _misc(self, line: str) -> str:
        choices = ["<!-- <memoryBacking/> é -->", "<?qemu > ?>", f"{line}<!--\n-->{line}", " ", "\n\n"]
        return self._random.choice(choices) if self._noisy() else ""

    def _gap(self) -> str:
        return self._random.choice(["\n ", "  "]) if self._noisy() else " "

    def _equals(self, value: str) -> str:
        equals = self._random.choice(["=", " = ", "\n="]) if self._noisy() else "="
        quote, other = self._random.choice([("'", '"'), ('"', "'")])
        value = value.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "&#10;").replace("\t", "&#x9;")
        value = value.replace(quote, "&#39;" if quote == "'" else "&quot;")
        if self._noisy():
            value = value.replace(other, "&apos;" if other == "'" else "&#x22;").replace(">", "&gt;")
        return f"{equals}{quote}{value}{quote}"

    def _text(self, text: str) -> str:
        if self._noisy() and text and "]]>" not in text:
            return f"<![CDATA[{text}]]>"
        return text.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;")


def normalised(text: str) -> str:
    """The document as libvirt might write it: its own indentation, quotes and order; comments are lost."""
    parser = etree.XMLParser(remove_comments=True, remove_pis=True, remove_blank_text=True, strip_cdata=True)
    root = etree.fromstring(text.encode(), parser)
    root[:] = sorted(root, key=lambda one: etree.QName(one).localname)
    for numa in root.iterfind("cpu/numa"):
        numa[:] = sorted(numa, key=lambda one: one.get("id", ""))
    for one in root.iter(etree.Element):
        if not len(one) and not (one.text or "").strip():
            one.text = None
    etree.indent(root, "  ")
    return etree.tostring(root, encoding="unicode") + "\n"
