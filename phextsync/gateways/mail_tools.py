"""What a language model may ask of boxes and messages, and answers of bounded size."""

from collections.abc import Sequence
from typing import Final

from phextsync.agents.mail import AsyncMail
from phextsync.agents.mail_layout import MAIL
from phextsync.aio import AsyncHandle
from phextsync.errors import PhextsyncError
from phextsync.gateways.tools import PAGE_CHARACTERS, PAGE_ROWS, Argument

MAIL_TOOLS: Final = frozenset({"mail_send", "mail_inbox", "mail_read", "mail_ack"})


async def use_mail(node: AsyncHandle, name: str, arguments: Sequence[Argument]) -> list[str]:
    """Carry out one of `MAIL_TOOLS`. PhextsyncError says what was wrong."""
    match [name, *arguments]:
        case ["mail_send", str(to), str(text), str(box), int(expires)]:
            after_s = float(expires) if expires else None
            message = await AsyncMail(node, box).send(to, text, expires_after_s=after_s)
            return [f"sent; it stands at {message.coordinate}"]
        case ["mail_inbox", str(box)]:
            return await _inbox(AsyncMail(node, box))
        case ["mail_read", str(place)]:
            message = await AsyncMail(node).read(place)
            said = [message.line(), message.text[:PAGE_CHARACTERS]]
            rest = len(message.text) - PAGE_CHARACTERS
            return [*said, f"[{rest} more: read {place} of {MAIL}]"] if rest > 0 else said
        case ["mail_ack", str(place), str(box)]:
            done = await AsyncMail(node, box).ack(place)
            return ["acknowledged" if done else "it was acknowledged before"]
    raise PhextsyncError(f"expected a tool for messages, found {name!r:.40}")


async def _inbox(mail: AsyncMail) -> list[str]:
    found = await mail.inbox()
    lines = [message.line() for message in found.messages[:PAGE_ROWS]]
    notes = []
    if len(found.messages) > PAGE_ROWS:
        notes.append(f"[{len(found.messages) - PAGE_ROWS} more: acknowledge these first]")
    if found.waiting:
        notes.append(f"[{len(found.waiting)} more wait for what their senders sent before]")
    return ["\n".join(lines) or "no messages", *notes]
