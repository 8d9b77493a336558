"""``send``: send one message by hand, for a first look."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
import msgspec
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment import messages
from celery_segment.cli.common import app_of, console_of, json_option
from celery_segment.cli.flush import reason_of
from celery_segment.cli.selecting import source_option
from celery_segment.errors import ConfigurationError, ValidationError
from celery_segment.operations.sending import Sending
from celery_segment.runtime import runtime_of
from celery_segment.text import one_line

__all__ = ["send"]

#: The values of the options, by the arguments of the calls, with their help.
_OPTIONS = {
    "user_id": ("ID", "Id of the user."),
    "anonymous_id": ("ID", "Id from before the user is known."),
    "event": ("NAME", "Name of the event, such as 'Item Purchased'."),
    "name": ("NAME", "Name of the page or screen."),
    "category": ("NAME", "Category of the page or screen."),
    "group_id": ("ID", "Id of the group."),
    "previous_id": ("ID", "Former id of the user."),
    "properties": ("JSON", "Properties, such as '{\"revenue\": 39.95}'."),
    "traits": ("JSON", 'Traits, such as \'{"plan": "pro"}\'.'),
    "context": ("JSON", 'Context, such as \'{"ip": "192.0.2.1"}\'.'),
    "integrations": ("JSON", 'Destinations, such as \'{"All": false, "Vero": true}\'.'),
    "timestamp": ("TIME", "Time of the event, ISO 8601; by default now."),
    "message_id": ("ID", "Id of the message; by default a random one."),
}


@click.group()
def send() -> None:
    """Send one message, for a first look.

    The message is stored like one of the application. The exit status is 0 if it is
    stored, and with --wait only if it is delivered.
    """


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def _fields_of(kind: str) -> list[str]:
    known = messages.TYPES[kind].__struct_fields__
    return [
        name for name in _OPTIONS if name in known and (kind, name) != ("alias", "anonymous_id")
    ]


def _json(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        return messages.decode(value.encode())
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        text = f"must be a JSON object in quotes, such as '{{\"key\": 5}}': {one_line(str(error))}"
        raise click.BadParameter(text, ctx, param) from None


def _add(kind: str) -> None:
    """Add the command that sends a type of message."""

    def command(
        ctx: click.Context, source: str, wait: bool, timeout: float, as_json: bool, **given: Any
    ) -> None:
        _send(ctx, kind, source, given, timeout if wait else None, as_json=as_json)

    command.__doc__ = f"Send one {kind} message, for a first look."
    made: Callable[..., Any] = click.pass_context(handle_preload_options(command))
    for add in (
        json_option,
        click.option(
            "--timeout",
            type=click.FloatRange(min=0),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest time to wait, with --wait.",
        ),
        click.option("--wait", is_flag=True, help="Wait until it is delivered, and say how."),
        source_option,
        *(_as_option(field) for field in reversed(_fields_of(kind))),
    ):
        made = add(made)
    send.command(kind, cls=CeleryCommand)(made)


def _as_option(field: str) -> Callable[..., Any]:
    metavar, text = _OPTIONS[field]
    return click.option(
        _option(field), metavar=metavar, help=text, callback=_json if metavar == "JSON" else None
    )


def _send(
    ctx: click.Context,
    kind: str,
    source: str,
    given: Mapping[str, Any],
    timeout: float | None,
    *,
    as_json: bool,
) -> None:
    app = app_of(ctx)
    runtime = runtime_of(app)
    if not runtime.settings.source(source).enabled:
        raise ConfigurationError(
            f"source {source!r} is not enabled: nothing would be stored", hint="set segment_enabled"
        )
    sending = Sending(runtime, source)
    try:
        data = sending.build(kind, given)
    except ValidationError as error:
        raise _usage(error, ctx) from None
    if data is None:
        state, text = "dropped", "is dropped: segment_before_send returned None"
    elif timeout is None:
        sending.store(data)
        state, text = "stored", "is stored; --wait waits until it is delivered"
    else:
        sending.store_and_watch(data)
        with console_of(ctx, stderr=True).status("waiting for the delivery"):
            state, text = _outcome(app, sending, timeout)
    if as_json:
        about = {"type": kind, "message_id": sending.message_id, "source": source}
        click.echo(json.dumps({**about, "state": state, "text": text}))
    else:
        click.echo(f"{source}: {kind} {sending.message_id} {text}")
    ctx.exit(0 if state in ("stored", "delivered") else 1)


def _outcome(app: Any, sending: Sending, timeout: float) -> tuple[str, str]:
    """Wait for a message; return what becomes of it, as a word and in words."""
    is_settled = sending.wait(timeout)
    answers = ", ".join(map(one_line, sending.answers()))
    answered = f" (answers: {answers})" if answers else ""
    if not is_settled:
        why = reason_of(app, sending)
        return "waiting", f"is stored, and not delivered yet{answered}: {why}"
    reason = sending.why_dead()
    if reason is not None:
        hint = f"see `celery segment dead list --source {sending.source}`"
        return "dead", f"is given up: {one_line(reason)}; {hint}"
    return "delivered", f"is delivered, {sending.seconds:.1f} s after it was stored{answered}"


def _usage(error: ValidationError, ctx: click.Context) -> click.UsageError:
    """Return the error that names the option in place of the argument of a call."""
    field, _, path = error.field.partition(".")
    field, bracket, index = field.partition("[")
    if field not in _OPTIONS:
        return click.UsageError(str(error), ctx)
    inner = f"{bracket}{index}{'.' if path else ''}{path}".lstrip(".")
    problem = error.problem
    for name in _OPTIONS:
        if "_" in name:
            problem = problem.replace(name, _option(name))
    return click.UsageError(f"{_option(field)}: {f'{inner}: ' if inner else ''}{problem}", ctx)


for _kind in messages.TYPES:
    _add(_kind)
