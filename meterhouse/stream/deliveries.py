"""Reads deliveries from an AMQP connection in bulk.

py-amqp reads frame by frame, with three reads of the socket for each of a message's three frames. That takes 60 to
75 µs a message, more than everything that is done with the message afterwards. This module reads whole buffers and
takes the frames of `basic.deliver` out of them (8 µs). It passes every other frame to py-amqp. It uses py-amqp's
buffer, so that py-amqp's own calls can be made in between. Deliveries that come while py-amqp waits for an answer are
not passed to it either, because py-amqp closes the connection if it cannot read a header.

The frames are those of the AMQP 0-9-1 specification, sections 2.3.5 (frames) and 2.3.5.2 (content), 1.8.3.13
(basic.deliver).
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from amqp import Connection

from meterhouse.stream import HEAD_BYTES, LONGEST

RECEIVE_BYTES = 1 << 18
LONG_BODY = 1 << 20
"""A longer message that has not arrived completely is taken frame by frame, so that its parts are copied only once."""

_FRAME: Callable[[bytes, int], tuple[int, int, int]] = Struct(">BHI").unpack_from
_DELIVER = b"\x00\x3c\x00\x3c"
_METHOD, _HEADER, _BODY = 1, 2, 3
_END = 0xCE
_AROUND = 8
"""Bytes of a frame around its payload: type, channel and size before it, an end mark after it."""

_NOT_WHOLE, _MIXED = 0, -1

OnDelivery = Callable[[str, int, bool, bytes, bytes, int], None]
"""Called with consumer tag, delivery tag, redelivered, properties on the wire, body, size of the body in bytes.

Of a body that is longer than allowed, only the first HEAD_BYTES come.
"""


class Deliveries:
    """Reads a connection of py-amqp. The deliveries of one channel go to `taken`, all other frames to py-amqp.

    Args:
        connection: the connection.
        channel: the number of the channel.
        taken: gets the deliveries.
        longest: maximum number of bytes of a body; of a longer one, the rest is never kept in memory.
    """

    def __init__(self, connection: Connection, channel: int, taken: OnDelivery, longest: int = LONGEST) -> None:
        self._transport: Any = connection.transport
        self._longest = connection.frame_max
        self._longest_body = longest
        self._channel = channel
        self._taken = taken
        self._others: Callable[[tuple[int, int, bytes]], bool] = connection.on_inbound_frame
        connection.on_inbound_frame = self._frame
        # the message whose first frames are taken
        self._method, self._properties, self._size, self._left = b"", b"", 0, -1
        self._parts: list[bytes] = []

    def read(self, timeout: float) -> int:
        """Wait for bytes for at most `timeout` seconds, and take what has come; return the number of bytes.

        Raises:
            OSError: the connection is lost.
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
        """Take all complete messages and other frames out of py-amqp's buffer."""
        transport = self._transport
        buffer, position = transport._read_buffer, 0
        try:
            while len(buffer) - position >= _AROUND:
                kind, channel, size = _FRAME(buffer, position)
                after = position + size + _AROUND
                if size > self._longest:
                    raise _not_amqp()
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
                    raise _not_amqp()
                payload = buffer[position + 7 : after - 1]
                # py-amqp may wait for an answer in this call, and then reads from the socket itself
                buffer, position = buffer[after:], 0
                transport._read_buffer = buffer
                self._frame((kind, channel, payload))
                buffer = transport._read_buffer
        finally:
            transport._read_buffer = buffer[position:]

    def _message(self, buffer: bytes, position: int, header: int) -> int:
        """Take the message whose method frame is at `position`, with its next frame at `header`; return where it ends.

        Returns _NOT_WHOLE if it has not arrived completely, _MIXED if other frames are between its own.
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
            raise _not_amqp()
        whole_body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._deliver(buffer[position + 7 : header - 1], buffer[header + 19 : body - 1], whole_body, len(whole_body))
        return place

    def _frame(self, frame: tuple[int, int, bytes]) -> bool:
        """Take one frame, as py-amqp does; return whether it completes a message or method."""
        kind, channel, payload = frame
        if channel != self._channel:
            return self._others(frame)
        if kind == _METHOD and payload[:4] == _DELIVER and not self._method:
            self._method = bytes(payload)
            return False
        if not self._method:
            return self._others(frame)
        if kind == _HEADER and self._left < 0:
            self._size = self._left = int.from_bytes(payload[4:12], "big")
            self._properties = bytes(payload[12:])
        elif kind == _BODY and 0 < len(payload) <= self._left:
            if self._size <= self._longest_body or self._size - self._left < HEAD_BYTES:
                self._parts.append(bytes(payload))
            self._left -= len(payload)
        elif kind != _BODY or payload:
            raise _not_amqp()
        if self._left:
            return False
        method, wire, body, size = self._method, self._properties, b"".join(self._parts), self._size
        self._method, self._properties, self._size, self._left, self._parts = b"", b"", 0, -1, []
        self._deliver(method, wire, body, size)
        return True

    def _deliver(self, method: bytes, wire: bytes, body: bytes, size: int) -> None:
        tag = 5 + method[4]
        self._taken(
            method[5:tag].decode(),
            int.from_bytes(method[tag : tag + 8], "big"),
            bool(method[tag + 8] & 1),
            wire,
            body if size <= self._longest_body else body[:HEAD_BYTES],
            size,
        )


def _not_amqp() -> ConnectionResetError:
    return ConnectionResetError("the broker sent data that is not AMQP")
