"""The walker reads what protobuf writes, and nothing else."""

import onnx
import pytest
from colour_model import colour_model
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.protobuf import BrokenError, TooManyError, Walker


def _walk(data: bytes, most: int = 1000) -> list[tuple[int, object]]:
    walker = Walker(data, most)
    return [(field.number, field.value) for field in walker.fields(walker.whole)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.text(max_size=300), st.floats(width=32))
def test_what_protobuf_wrote_is_read(dims, name, number):
    tensor = onnx.TensorProto(dims=dims, name=name, float_data=[number] if number == number else [])
    data = tensor.SerializeToString()
    walker = Walker(data, 1000)
    fields = list(walker.fields(walker.whole))
    assert [size for field in fields if field.number == 1 for size in walker.integers(field.value)] == dims
    assert "".join(walker.text(field.span, 10_000) for field in fields if field.number == 8) == name
    assert walker.text((0, len(data)), 0) == ""


def test_path_of_field_numbers_leads_into_messages():
    walker = Walker(colour_model(), 10_000)
    inputs = walker.inside(walker.whole, 7, 11)
    sizes = [field.value for field in walker.inside(inputs[0].span, 2, 1, 2, 1, 1)]
    assert (len(inputs), sizes) == (1, [1, 3, 64, 64])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "it breaks off at byte 1"),
        (b"\x12\x05abc", "it breaks off at byte 2"),
        (b"\x0d\x00\x00", "it breaks off at byte 1"),
        (b"\x0b", "a field of kind 3 at byte 0"),
        (b"\x08\x01\x00\x01", "a field 0 at byte 2"),
        (b"\x08" + b"\xff" * 10, "a number has no end at byte 11"),
    ],
)
def test_what_is_no_message_is_refused_where_it_begins(data, message):
    with pytest.raises(BrokenError, match=message):
        _walk(data)


def test_number_in_place_of_a_message_is_refused():
    walker = Walker(b"\x38\x01", 10)
    with pytest.raises(BrokenError, match="a number where something else belongs"):
        walker.inside(walker.whole, 7, 1)


def test_fields_and_packed_numbers_count():
    assert len(_walk(b"\x08\x01" * 10, 10)) == 10
    with pytest.raises(TooManyError):
        _walk(b"\x08\x01" * 11, 10)
    walker = Walker(b"\x01" * 11, 10)
    with pytest.raises(TooManyError):
        walker.integers(walker.whole)
