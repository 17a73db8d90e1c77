"""Deliveries off an AMQP connection in bulk.

py-amqp reads frame by frame, with three reads of the socket for each of a message's three frames: 60 to 75 µs a
message, which is more than everything that is done with it afterwards. Here whole buffers are read, and the frames of
`basic.deliver` are taken out of them (8 µs); every other frame is handed to py-amqp, whose buffer is used, so that its
own calls can be made between. Deliveries that come while py-amqp waits for an answer are kept from it too: it gives up
the connection over a header that it cannot read.

The frames are those of the AMQP 0-9-1 specification, sections 2.3.5 (frames) and 2.3.5.2 (content), 1.8.3.13
(basic.deliver).
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from amqp import Connection

RECEIVE_BYTES = 1 << 18
LONG_BODY = 1 << 20
"""A longer message, that is not there as a whole yet, is taken frame by frame: its pieces are copied only once then."""

_FRAME: Callable[[bytes, int], tuple[int, int, int]] = Struct(">BHI").unpack_from
_DELIVER = b"\x00\x3c\x00\x3c"
_METHOD, _HEADER, _BODY = 1, 2, 3
_END = 0xCE
_AROUND = 8
"""Bytes of a frame around its payload: type, channel and size before it, an end mark behind."""

_NOT_WHOLE, _MIXED = 0, -1

OnDelivery = Callable[[str, int, bool, bytes, bytes], None]
"""Takes consumer tag, delivery tag, redelivered, properties on the wire, body."""


class Deliveries:
    """Reads a connection of py-amqp: the deliveries of one channel go to `taken`, all else to py-amqp."""

    def __init__(self, connection: Connection, channel: int, taken: OnDelivery) -> None:
        self._transport: Any = connection.transport
        self._longest = connection.frame_max
        self._channel = channel
        self._taken = taken
        self._others: Callable[[tuple[int, int, bytes]], bool] = connection.on_inbound_frame
        connection.on_inbound_frame = self._frame
        # a message of which some frames are taken
        self._method, self._properties, self._left = b"", b"", -1
        self._parts: list[bytes] = []

    def read(self, timeout: float) -> int:
        """Wait at most so many seconds for bytes, and take what is there; return how many bytes came.

        Raises:
            OSError: the connection is gone.
            amqp.exceptions.AMQPError: the broker closed the channel or the connection.
        """
        transport = self._transport
        usual = transport.sock.gettimeout()
        transport.sock.settimeout(timeout)
        try:
            came = transport.sock.recv(RECEIVE_BYTES)
        except TimeoutError:
            return 0
        finally:
            transport.sock.settimeout(usual)
        if not came:
            raise ConnectionResetError("the broker closed the connection")
        transport._read_buffer += came
        self._take()
        return len(came)

    def _take(self) -> None:
        """Take all whole messages and other frames out of py-amqp's buffer."""
        transport = self._transport
        buffer, position = transport._read_buffer, 0
        try:
            while len(buffer) - position >= _AROUND:
                kind, channel, size = _FRAME(buffer, position)
                after = position + size + _AROUND
                if size > self._longest:
                    raise _no_amqp()
                if after > len(buffer):
                    break
                if kind == _METHOD and channel == self._channel and buffer[position + 7 : position + 11] == _DELIVER:
                    taken = self._message(buffer, position, after)
                    if taken > 0:
                        position = taken
                        continue
                    if taken == _NOT_WHOLE and len(buffer) - position <= LONG_BODY:
                        break
                if buffer[after - 1] != _END:
                    raise _no_amqp()
                payload = buffer[position + 7 : after - 1]
                # py-amqp may wait for an answer in here, and then reads on itself
                buffer, position = buffer[after:], 0
                transport._read_buffer = buffer
                self._frame((kind, channel, payload))
                buffer = transport._read_buffer
        finally:
            transport._read_buffer = buffer[position:]

    def _message(self, buffer: bytes, position: int, header: int) -> int:
        """Take the message whose method frame is at `position`, with its next frame at `header`; return where it ends.

        _NOT_WHOLE where it is not there as a whole, _MIXED where other frames are between its own.
        """
        end = len(buffer)
        if end - header < _AROUND:
            return _NOT_WHOLE
        kind, channel, size = _FRAME(buffer, header)
        if kind != _HEADER or channel != self._channel:
            return _MIXED
        body = header + size + _AROUND
        if body > end:
            return _NOT_WHOLE
        left = int.from_bytes(buffer[header + 11 : header + 19], "big")
        whole = buffer[header - 1] == _END and buffer[body - 1] == _END
        parts = []
        place = body
        while left > 0:
            if end - place < _AROUND:
                return _NOT_WHOLE
            kind, channel, size = _FRAME(buffer, place)
            if kind != _BODY or channel != self._channel:
                return _MIXED
            after = place + size + _AROUND
            if after > end:
                return _NOT_WHOLE
            parts.append(buffer[place + 7 : after - 1])
            whole = whole and buffer[after - 1] == _END
            left -= size
            place = after
        if left or not whole:
            raise _no_amqp()
        self._give(
            buffer[position + 7 : header - 1],
            buffer[header + 19 : body - 1],
            parts[0] if len(parts) == 1 else b"".join(parts),
        )
        return place

    def _frame(self, frame: tuple[int, int, bytes]) -> bool:
        """Take one frame, as py-amqp does; tell whether something is complete with it."""
        kind, channel, payload = frame
        if channel != self._channel:
            return self._others(frame)
        if kind == _METHOD and payload[:4] == _DELIVER and not self._method:
            self._method = bytes(payload)
            return False
        if not self._method:
            return self._others(frame)
        if kind == _HEADER and self._left < 0:
            self._left, self._properties = int.from_bytes(payload[4:12], "big"), bytes(payload[12:])
        elif kind == _BODY and 0 < len(payload) <= self._left:
            self._left -= len(payload)
            self._parts.append(bytes(payload))
        elif kind != _BODY or payload:
            raise _no_amqp()
        if self._left:
            return False
        method, wire, body = self._method, self._properties, b"".join(self._parts)
        self._method, self._properties, self._left, self._parts = b"", b"", -1, []
        self._give(method, wire, body)
        return True

    def _give(self, method: bytes, wire: bytes, body: bytes) -> None:
        tag = 5 + method[4]
        self._taken(
            method[5:tag].decode(),
            int.from_bytes(method[tag : tag + 8], "big"),
            bool(method[tag + 8] & 1),
            wire,
            body,
        )


def _no_amqp() -> ConnectionResetError:
    return ConnectionResetError("what the broker sends is no AMQP")
