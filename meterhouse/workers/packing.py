"""What is sent to the workers of a cluster and back: pickled, and Arrow tables in it as Arrow's IPC stream."""

import io
import pickle
from typing import Any

import pyarrow as pa


class _Pickler(pickle.Pickler):
    """Pickle ships the whole buffers of a slice of a table; Arrow's own format ships the slice."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, pa.Table):
            return NotImplemented
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return _table, (sink.getvalue().to_pybytes(),)


def _table(stream: bytes) -> pa.Table:
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()


def packed(value: Any) -> bytes:
    """A value as bytes."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def unpacked(value: bytes) -> Any:
    """The value of bytes from `packed`."""
    return pickle.loads(value)
