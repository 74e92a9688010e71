"""Objects: iothreads, random number generators, hotplugged RAM, secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile.change import Change

Settings = Mapping[str, object]

# The settings of each kind, with their defaults (qapi/qom.json).  Without what the machine decides for all its memory
# (dump, merge), and without what only reports an object's state (opened, loaded).
_MEMORY: Settings = {
    "size": None,
    "share": False,
    "prealloc": False,
    "prealloc-threads": 1,
    "prealloc-context": "",  # CONTEXT
    "reserve": True,
    "policy": "default",
    "host-nodes": [],
}
KINDS: Mapping[str, Settings] = {
    "iothread": {
        "poll-max-ns": 32768,  # IOTHREAD_POLL_MAX_NS_DEFAULT, iothread.c
        "poll-grow": 0,
        "poll-shrink": 0,
        "aio-max-batch": 0,
        "thread-pool-min": 0,
        "thread-pool-max": 64,  # THREAD_POOL_MAX_THREADS_DEFAULT, include/block/aio.h
    },
    "memory-backend-memfd": {**_MEMORY, "seal": True, "hugetlb": False, "hugetlbsize": 0},
    "memory-backend-file": {
        **_MEMORY,
        "mem-path": "",
        "align": 0,
        "offset": 0,
        "discard-data": False,
        "pmem": False,
        "readonly": False,
        "rom": "auto",
    },
    "memory-backend-ram": _MEMORY,
    "rng-random": {"filename": ""},
    "rng-builtin": {},
    "rng-egd": {"chardev": ""},
    # As given: still encrypted if a key is named (crypto/secret_common.c decrypts elsewhere).
    "secret": {"data": "", "file": "", "format": "raw", "keyid": "", "iv": ""},
    "tls-creds-x509": {
        "dir": "",
        "endpoint": "client",
        "verify-peer": True,
        "priority": "",
        "passwordid": "",
        "sanity-check": True,
    },
    "authz-list-file": {"filename": "", "refresh": False},
    "throttle-group": {"limits": {}},
    "thread-context": {"cpu-affinity": [], "node-affinity": []},
}
CONTEXT = "prealloc-context"
FIRST = ("secret", "thread-context", "tls-creds-x509")  # other objects name them


def change(line: CommandLine, qemu: QemuFacts) -> Change:
    replaced: dict[Option, Option | None] = {}
    known: set[str] = set()
    for option in line.named("object"):
        given = option.properties()
        name, kind = str(given.get("id")), given.get("qom-type", given.get(""))
        if qemu.objects.get(name) != kind:
            replaced[option] = None
            continue
        known.add(name)
        if name in qemu.settings and kind in KINDS and _differs(given, _now(qemu, name), KINDS[str(kind)]):
            replaced[option] = _option(qemu, name)
        elif not _there(given.get(CONTEXT, ""), qemu):
            replaced[option] = option.without(CONTEXT)
    new = {name: kind for name, kind in qemu.objects.items() if name not in known and not kind.startswith("monitor-")}
    made = sorted((name for name, kind in new.items() if kind in KINDS), key=lambda name: (_rank(new[name]), name))
    return Change(replaced, tuple(_option(qemu, name) for name in made), tuple(_refused(new)))


def _rank(kind: str) -> int:
    return FIRST.index(kind) if kind in FIRST else len(FIRST)


def _refused(new: Mapping[str, str]) -> Iterator[str]:
    for name, kind in sorted(new.items()):
        if kind not in KINDS:
            yield f"object {name} was added since the guest started, and its kind ({kind}) can't be rebuilt"


def _now(qemu: QemuFacts, name: str) -> dict[str, object]:
    """The settings that make the object as it is."""
    settings = qemu.settings[name]
    current = {key: settings.get(key, default) for key, default in KINDS[qemu.objects[name]].items()}
    context = str(current.get(CONTEXT, "")).rpartition("/")[2]
    if CONTEXT in current:
        current[CONTEXT] = context if _there(context, qemu) else ""
    return {key: value for key, value in current.items() if value != KINDS[qemu.objects[name]][key]}


def _there(context: object, qemu: QemuFacts) -> bool:
    """libvirt takes the threads away that have allocated a guest's RAM (qemuProcessDeleteThreadContext()); the RAM
    still names them."""
    return not context or context in qemu.objects


def _differs(given: Settings, now: Settings, defaults: Settings) -> bool:
    """Whether the command line differs; settings that aren't in ``defaults`` are ignored."""
    changed = {key: value for key, value in given.items() if key in defaults and _text(value) != _text(defaults[key])}
    return {k: _text(v) for k, v in changed.items()} != {k: _text(v) for k, v in now.items()}


def _text(value: object) -> str:
    """One spelling for JSON and ``key=value``; of limits only those that are set (throttle_config_init,
    util/throttle.c: the defaults are 0, and bursts of one second)."""
    if isinstance(value, Mapping):
        return str(
            sorted((key, limit) for key, limit in value.items() if limit != (1 if key.endswith("-length") else 0))
        )
    if isinstance(value, bool):
        return "on" if value else "off"
    return {"yes": "on", "true": "on", "no": "off", "false": "off"}.get(str(value), str(value))


def _option(qemu: QemuFacts, name: str) -> Option:
    properties = {"qom-type": qemu.objects[name], "id": name, **_now(qemu, name)}
    return Option("object", json.dumps(properties, separators=(",", ":")))
