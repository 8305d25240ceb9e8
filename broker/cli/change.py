# SPDX-License-Identifier: GPL-2.0-or-later
"""``powermgr add|modify|delete ENTITY ...``: each asks first, when there is somebody to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.cli.command import Context, Output, ask, one_line
from broker.cli.entities import ENTITIES, Entity, Key
from broker.cli.show import sendable
from broker.cli.table import Style, read_format, render
from broker.cli.words import read_entity, read_terms, split_at
from broker.domain.errors import BadRequest
from broker.services.messages import Answer, Request

DISCARDED = 1  #: exit code when the operator said no


def add(words: Sequence[str], context: Context) -> Output:
    """Add a power reservation."""
    entity = _changeable(words, "add")
    terms = read_terms(words[1:], entity.add, now=context.now)
    _require(terms, entity.add, "add", entity)
    if entity.name == "reservation":
        _settle_window(terms, context)
        _require_owner(terms, entity)
    request = Request(op="add", entity=entity.name, values=sendable(terms))
    return _commit(f"Adding {entity.name}", words[1:], request, context)


def modify(words: Sequence[str], context: Context) -> Output:
    """Change something; ``set`` may be left out."""
    entity = _changeable(words, "modify")
    sections = split_at(words[1:], "where", "set")
    where = read_terms(sections["where"], entity.where, now=context.now)
    terms = read_terms([*sections[""], *sections["set"]], entity.modify, now=context.now)
    _require(terms, entity.modify, "modify", entity)
    request = Request(
        op="modify", entity=entity.name, where=sendable(where), values=sendable(terms)
    )
    return _commit(f"Modifying {entity.name}", words[1:], request, context)


def delete(words: Sequence[str], context: Context) -> Output:
    """Delete by name."""
    entity = _changeable(words, "delete")
    sections = split_at(words[1:], "where")
    where = read_terms([*sections[""], *sections["where"]], entity.delete, now=context.now)
    _require(where, entity.delete, "delete", entity)
    request = Request(op="delete", entity=entity.name, where=sendable(where))
    return _commit(f"Deleting {entity.name}", words[1:], request, context)


def _changeable(words: Sequence[str], verb: str) -> Entity:
    entity = read_entity(words, verb)
    if getattr(entity, verb):
        return entity
    able = [each.name for each in ENTITIES.values() if getattr(each, verb)]
    hint = f"powermgr can {verb}: {', '.join(able)}"
    if (verb, entity.name) == ("modify", "reservation"):
        hint = "delete it and add it again: powermgr delete reservation name=NAME"
    raise BadRequest(f"a {entity.name} cannot be changed with {verb}", hint=hint)


def _settle_window(terms: dict[str, Any], context: Context) -> None:
    """Make ``start`` and ``end`` of what was given."""
    start = terms.setdefault("start", context.now)
    duration = terms.pop("duration", None)
    if duration is not None and "end" in terms:
        raise BadRequest("end and duration are both given", hint="give one of them")
    if duration is not None:
        terms["end"] = start + duration
    if "end" not in terms:
        raise BadRequest("neither end nor duration is given", hint="such as duration=30 (minutes)")
    end = terms["end"]
    if end <= max(start, context.now):
        raise BadRequest(
            f"end={end:%Y-%m-%dT%H:%M:%S} is not after"
            f" {'start=' if start > context.now else 'now, '}"
            f"{max(start, context.now):%Y-%m-%dT%H:%M:%S}",
            hint="such as start=now+1minute duration=30",
        )


def _require_owner(terms: dict[str, Any], entity: Entity) -> None:
    if not terms.get("accounts") and not terms.get("users"):
        raise BadRequest("neither account nor user is given", hint=f"powermgr {entity.example}")


def _require(terms: dict[str, Any], keys: Sequence[Key], verb: str, entity: Entity) -> None:
    missing = [key.name for key in keys if key.required and (key.sends or key.name) not in terms]
    if missing:
        hint = f"powermgr {entity.example}" if verb != "delete" else "such as name=launch"
        raise BadRequest(f"{verb} {entity.name}: {', '.join(missing)} not given", hint=hint)


def _commit(title: str, words: Sequence[str], request: Request, context: Context) -> Output:
    said = " ".join(words)
    if not context.confirm(one_line(f" {title}\n  {said}")):
        return Output(" Changes Discarded\n", DISCARDED)
    return _said(ask(context, request), request, context)


def _said(answer: Answer, request: Request, context: Context) -> Output:
    if context.options.style is not Style.JSON:
        return Output(one_line(answer.message), answer.exit_code)
    fields = read_format("", ENTITIES[request.entity])
    text = render(answer.rows, fields, style=Style.JSON, header=False)
    return Output(text, answer.exit_code)
