"""Sockets: streams of bytes between two machines, in clear and under TLS, that can send at once;
and how many of them a process may have.

Where files that may be open run out, the doors that matter most stay open: an eighth of the
descriptors, at most 32, is left to processes of this machine and to files, another one to peers.
HTTP has the rest.
"""

import contextlib
import operator
import os
import ssl
import weakref
from typing import Final, NoReturn, Protocol, runtime_checkable

import trio

from phextsync.errors import LinkError
from phextsync.systems.forking import in_children
from phextsync.systems.resources import open_files, open_files_max

_RECEIVE_BYTES: Final = 64 << 10  # buffers of 256 KiB cost a third of the throughput
_RECORD_BYTES: Final = 16 << 10  # TLS has no larger ones
_BACKLOG_BYTES_MAX: Final = 64 << 10  # answers to TLS key updates that were never sent
_PARTS: Final = 8  # of all descriptors
_PART_MAX: Final = 32

FOR_FILES: Final = 1
"""Parts that peers leave to processes of this machine and to files."""
FOR_PEERS: Final = 2
"""Parts that HTTP leaves to those and to peers."""
FOR_CLIENTS: Final = 3
"""Parts up to which a connection over HTTP that waits is no reason to close another."""

_sockets: weakref.WeakSet[trio.socket.SocketType] = weakref.WeakSet()


def are_left(parts: int) -> bool:
    """Whether so many parts of the descriptors that this process may have are free now."""
    limit = open_files_max()
    return limit is None or limit - open_files() >= parts * min(limit // _PARTS, _PART_MAX)


def close_in_children(end: trio.abc.Stream | trio.SocketListener) -> None:
    """Let forked children close their copy of a socket: it is open as long as anybody has it, and
    others would wait for a process that is gone."""
    if isinstance(end, trio.SocketStream | trio.SocketListener):
        _sockets.add(end.socket)


def _close_all() -> None:
    for socket in list(_sockets):
        descriptor = socket.detach()
        if descriptor >= 0:
            os.close(descriptor)


in_children(_close_all)


@runtime_checkable
class PromptStream(Protocol):
    """A stream that can send at once, without a turn of the scheduler."""

    @property
    def is_behind(self) -> bool:
        """Whether something is being sent, or waits for the next `send_all`."""

    def send_nowait(self, data: bytes) -> bool:
        """Send what goes at once; the rest goes first with the next `send_all`, even one of
        nothing. Return whether all went. Only for a stream that is not behind."""


class SocketStream(trio.abc.Stream):
    """A connected socket, like `trio.SocketStream`, which takes more system calls and turns of the
    scheduler for what arrives one by one; and a `PromptStream`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        close_in_children(stream)
        self._unsent = b""
        self._is_sending = False

    @property
    def is_behind(self) -> bool:
        """Whether something is being sent, or waits for the next `send_all`."""
        return self._is_sending or bool(self._unsent)

    def send_nowait(self, data: bytes) -> bool:
        """Send what goes at once; return whether that was all."""
        sent = self._write(data)
        if sent == len(data):
            return True
        self._unsent = data[sent:]
        return False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, after what was left."""
        self._begin_to_send()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            data, self._unsent = self._unsent + data, b""
            with memoryview(data) as view:
                sent = self._write(view) if data else 0
                if sent == len(view):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                while sent < len(view):
                    await trio.lowlevel.wait_writable(self.socket)
                    sent += self._write(view[sent:])
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes data."""
        self._begin_to_send()
        try:
            await trio.lowlevel.wait_writable(self.socket)
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, up to `max_bytes`; b"" when the peer has ended."""
        limit = _RECEIVE_BYTES if max_bytes is None else _checked_bytes(max_bytes)
        while True:
            descriptor = self._descriptor()
            # To read first would be in vain nearly always: what has arrived was read. Closing
            # the socket meanwhile ends the wait with an error.
            await trio.lowlevel.wait_readable(descriptor)
            try:
                return os.read(descriptor, limit)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"the connection broke: {error}") from error

    def stop_waiting(self) -> None:
        """End a wait for what arrives, by trio.ClosedResourceError. What has arrived counts."""
        trio.lowlevel.notify_closing(self.socket)

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

    def _begin_to_send(self) -> None:
        self._descriptor()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this socket")
        self._is_sending = True

    def _descriptor(self) -> int:
        descriptor = self.socket.fileno()
        if descriptor < 0:
            raise _closed()
        return descriptor

    def _write(self, data: bytes | memoryview) -> int:
        """Send what goes at once; return how much that was."""
        descriptor = self.socket.fileno()
        if descriptor < 0:
            raise _closed()
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"the connection broke: {error}") from error


class TlsStream(trio.abc.Stream):
    """TLS over a stream, by the standard `ssl` module.

    Two things `trio.SSLStream` does not do: it sends the alert that tells the peer why it was
    refused, and it takes neither locks nor turns of the scheduler on the way of a frame.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
    ) -> None:
        self.transport_stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._prompt = stream if isinstance(stream, PromptStream) else None
        self._is_sending = False
        self._has_more = True  # something that has arrived is not decrypted, or was not looked at
        self._has_ended = False  # the peer has said goodbye
        self._is_broken = True  # until the handshake is done
        self._is_closed = False

    async def do_handshake(self) -> None:
        """Prove who we are and see who the peer is; LinkError says who refused whom, and why."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._flush()  # the alert
                raise LinkError(_refusal(error)) from error
            else:
                await self._flush()
                self._is_broken = False
                return

    def peer_certificate(self) -> bytes:
        """Return the certificate that the peer has shown, in DER."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate is not None, "the contexts demand a certificate"
        return certificate

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; cancelled, it leaves the stream broken."""
        self._check_usable()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this TLS stream")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_sending = True
        try:
            if data:
                self._tls.write(data)
            await self.transport_stream.send_all(self._outgoing.read())
        except BaseException as error:
            self._break(error)
        finally:
            self._is_sending = False

    @property
    def is_behind(self) -> bool:
        """Whether something is being sent, or waits for the next `send_all`; also where nothing
        can be sent at once."""
        if self._prompt is None or self._is_broken or self._is_closed:
            return True
        return self._is_sending or self._prompt.is_behind

    def send_nowait(self, data: bytes) -> bool:
        """Encrypt, and send what goes at once; return whether that was all."""
        if self._is_closed or self._is_broken:
            self._check_usable()
        assert self._prompt is not None
        try:
            self._tls.write(data)
            return self._prompt.send_nowait(self._outgoing.read())
        except BaseException as error:
            self._break(error)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream below takes data."""
        self._check_usable()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this TLS stream")
        self._is_sending = True
        try:
            await self.transport_stream.wait_send_all_might_not_block()
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has been decrypted, up to `max_bytes`; b"" after the peer's goodbye."""
        limit = _RECEIVE_BYTES if max_bytes is None else _checked_bytes(max_bytes)
        if self._is_closed or self._is_broken:
            self._check_usable()
        if self._has_more or self._has_ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._fill()
        while (data := self._decrypt(limit)) is None:
            await self._fill()
        self._has_ended = not data
        return data

    async def aclose(self) -> None:
        """Say goodbye without waiting for an answer, and close the stream below."""
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            if not (self._is_broken or self._is_sending):
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._flush()
        except BaseException:
            await trio.aclose_forcefully(self.transport_stream)
            raise
        await self.transport_stream.aclose()

    def _check_usable(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this TLS stream was closed")
        if self._is_broken:
            raise trio.BrokenResourceError("this TLS stream has failed")

    def _break(self, error: BaseException) -> NoReturn:
        """Nothing can be sent any more: the other side would miss a piece."""
        self._is_broken = True
        if isinstance(error, ssl.SSLError):
            raise trio.BrokenResourceError(str(error)) from error
        raise error

    def _decrypt(self, limit: int) -> bytes | None:
        """Return what is here, b"" at the peer's goodbye, None when more has to arrive first."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < limit:
                wanted = min(limit - size, _RECORD_BYTES)
                piece = self._tls.read(wanted)
                pieces.append(piece)
                size += len(piece)
                # Less than was wanted is all of a record.
                is_cut = len(piece) == wanted and self._tls.pending() > 0
                self._has_more = self._incoming.pending > 0 or is_cut
                if not piece or not self._has_more:
                    break
        except ssl.SSLWantReadError:
            self._has_more = False
            if not pieces:
                return None
        except ssl.SSLZeroReturnError:
            pass  # the goodbye; what came before it counts first
        except ssl.SSLError as error:
            if not pieces:
                self._is_broken = True
                raise trio.BrokenResourceError(_refusal(error)) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _fill(self) -> None:
        data = await self.transport_stream.receive_some()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        if self._outgoing.pending > _BACKLOG_BYTES_MAX:
            self._is_broken = True
            raise trio.BrokenResourceError("the peer asks for new keys without end")

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self.transport_stream.send_all(data)


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this socket was closed")


def _checked_bytes(max_bytes: int) -> int:
    limit = operator.index(max_bytes)
    if limit < 1:
        raise ValueError(f"expected to receive at least 1 byte, found {limit}")
    return limit


def _refusal(error: ssl.SSLError) -> str:
    """Say in one line who ended the TLS connection, and why."""
    reason = error.reason or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        if "expired" in error.verify_message or "not yet valid" in error.verify_message:
            return f"refused the peer: its {error.verify_message}"
        return f"refused the peer, it belongs to another mesh: {error.verify_message}"
    if reason in ("TLSV1_ALERT_UNKNOWN_CA", "TLSV1_ALERT_DECRYPT_ERROR"):
        return "the peer refused us, it belongs to another mesh"
    if reason.endswith("ALERT_CERTIFICATE_EXPIRED"):
        return "the peer refused us: our certificate has expired"
    if reason in ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "TLSV13_ALERT_CERTIFICATE_REQUIRED"):
        return "refused a peer without a certificate"
    if isinstance(error, ssl.SSLEOFError) or "EOF" in reason:
        return "the peer ended the connection without a goodbye"
    if "ALERT" in reason:
        return f"the peer refused us: {reason.lower().replace('_', ' ')}"
    return f"the peer does not speak TLS as expected: {reason.lower().replace('_', ' ')}"
