# Copyright: the virtcpr developers
# SPDX-License-Identifier: Apache-2.0
"""Run virtcpr and read its answer: one JSON object, whatever happens."""

from __future__ import annotations

import json

COMMON = {
    "executable": {"type": "path", "default": "virtcpr"},
    "uri": {"type": "str"},
}
DOMAINS = {
    "domains": {"type": "list", "elements": "str"},
    "all": {"type": "bool", "default": False},
}
CHOICE = {"mutually_exclusive": [("domains", "all")], "required_one_of": [("domains", "all")]}
SOME, BLOCKED, UNKNOWN = 3, 4, 6


def run(module, command, *arguments):
    """The JSON object of a command.  Fails the task if there is none, or the command failed as a whole."""
    connect = ["-c", module.params["uri"]] if module.params["uri"] else []
    argv = [module.params["executable"], "-q", *connect, command, "-o", "json", *arguments]
    code, out, err = module.run_command(argv)
    try:
        document = json.loads(out)
    except ValueError:
        module.fail_json(msg=f"virtcpr {command} gave no JSON (exit code {code}): {err.strip()}", rc=code)
    if "error" in document:
        error = document["error"]
        module.fail_json(msg=error["message"], hint=error["hint"], code=error["code"], rc=code)
    return document


def chosen(module):
    """The words that name the domains on a command line."""
    return ["--all"] if module.params["all"] else ["--", *module.params["domains"]]


def option(name, value):
    return [] if value is None else [name, str(value)]


def report(document):
    """What a module returns of it."""
    return {"rc": document["exit_code"], "domains": document["domains"], "notes": document.get("notes", [])}


def summary(domains, key):
    """``2 upgraded, 1 blocked (db)``."""
    words = {}
    for domain in domains:
        words.setdefault(domain[key], []).append(domain["name"])
    return ", ".join(f"{len(names)} {word} ({', '.join(names)})" for word, names in words.items()) or "no domains"


def end(module, document, *, planned):
    """End the task with the moves of a document, or with those that are only planned."""
    key, done = ("action", "move") if planned else ("result", "upgraded")
    moved = [domain for domain in document["domains"] if domain[key] == done]
    result = {
        "changed": bool(moved),
        "msg": summary(document["domains"], key),
        "diff": {"before": versions(moved, "from"), "after": versions(moved, "to")},
        "blackout_ms": document.get("blackout_ms"),
        **report(document),
    }
    if bad(module, document, [domain[key] for domain in document["domains"]]):
        module.fail_json(**result)
    module.exit_json(**result)


def bad(module, document, results):
    """Whether these results of domains make the task fail, or that libvirt's daemon isn't there any more."""
    if document["exit_code"] == UNKNOWN or {"rolled-back", "failed", "unknown"}.intersection(results):
        return True
    return "blocked" in results and not module.params["ignore_blocked"]


def versions(domains, side):
    """A line for each domain that is moved, for the diff."""
    lines = (f"{domain['name']}: {(domain[side] or {}).get('version')}" for domain in domains)
    return "".join(f"{line}\n" for line in lines)
